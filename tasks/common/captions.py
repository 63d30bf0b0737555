"""ROUGE-L and CIDEr of generated sentences, as the captioning field computes them (pycocoevalcap), in percent.

    >>> score_captions({"17": "a dog runs ."}, {"17": ["a dog is running ."]})
    {'rouge_l': 62.9..., 'cider': ...}

The field tokenises with the PTB tokenizer, a Java program. Without Java the scores are computed on plain tokens (lower
case, punctuation removed) and carry that in their names, `rouge_l_plain` and `cider_plain`: close, but not comparable.
"""

import functools
import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

log = logging.getLogger(__name__)

NO_JAVA = (
    "Java was not found, and the PTB tokenizer that published ROUGE-L and CIDEr values use needs it: the scores are "
    "computed on plain tokens instead and are named rouge_l_plain and cider_plain. Install a Java runtime (Debian: "
    "default-jre-headless; conda: openjdk) to get the comparable ones."
)


def score_captions(generated: dict[str, str], references: dict[str, list[str]]) -> dict[str, float]:
    """Corpus scores in percent (CIDEr's own range is 0 to 10, so 0 to 1000 here).

    generated: one sentence per id; references: one or more per id. Empty sentences score 0; CIDEr's word weights come
    from `references`, so its value depends on the whole set. Raises ValueError for no sentences or for differing ids.
    """
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    if not generated or generated.keys() != references.keys():
        raise ValueError(
            f"captions and references must share their ids and not be empty: {len(generated)} captions, "
            f"{len(references)} references, {len(generated.keys() & references.keys())} ids in both"
        )
    java = has_java()
    tokenise = ptb_tokens if java else plain_tokens
    # both at once, since every start of Java costs half a second; the hypothesis comes first
    tokens = tokenise({name: [sentence, *references[name]] for name, sentence in generated.items()})
    hypotheses = {name: sentences[:1] for name, sentences in tokens.items()}
    targets = {name: sentences[1:] for name, sentences in tokens.items()}
    suffix = "" if java else "_plain"
    return {
        f"rouge_l{suffix}": 100 * float(Rouge().compute_score(targets, hypotheses)[0]),
        f"cider{suffix}": 100 * float(Cider().compute_score(targets, hypotheses)[0]),
    }


def best_constant(texts: list[str], candidates: int, references: int) -> str:
    """Of `candidates` sentences from `texts` the one that, given as every answer, has the best mean CIDEr.

    Tried on `references` sentences from `texts`; both are spread evenly over the list. Plain tokens.
    """
    from pycocoevalcap.cider.cider import Cider

    tokens = plain_tokens({"": texts})[""]
    tried, asked = (range(0, len(texts), max(1, len(texts) // count))[:count] for count in (candidates, references))
    pairs = [(i, j) for i in tried for j in asked]
    scores = Cider().compute_score({p: [tokens[p[1]]] for p in pairs}, {p: [tokens[p[0]]] for p in pairs})[1]
    return texts[tried[int(scores.reshape(len(tried), -1).mean(1).argmax())]]


@functools.cache
def has_java() -> bool:
    """Whether Java is there; says once what its absence means."""
    found = shutil.which("java") is not None
    if not found:
        log.warning(NO_JAVA)
    return found


def one_line(sentence: str) -> str:
    """White space, line and paragraph separators folded: one of them inside a caption would shift all later ones."""
    return " ".join(sentence.split())


def ptb_tokens(captions: dict[str, list[str]]) -> dict[str, list[str]]:
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    # a lone full stop keeps an empty caption's line, and is removed with all punctuation
    lines = {name: [{"caption": one_line(text) or "."} for text in texts] for name, texts in captions.items()}
    with tempfile.TemporaryFile() as said:  # a line about its speed, or why it failed
        with stderr_to(said):
            tokens = PTBTokenizer().tokenize(lines)
        counts = [{name: len(texts) for name, texts in sentences.items()} for sentences in (captions, tokens)]
        if counts[0] != counts[1]:
            said.seek(0)
            raise RuntimeError(f"the PTB tokenizer lost captions; Java said: {said.read().decode(errors='replace')}")
    return tokens


@contextmanager
def stderr_to(file: BinaryIO) -> Iterator[None]:
    """Sends what this process and its children write to standard error inside the block into `file`."""
    sys.stderr.flush()
    kept = os.dup(2)
    os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def plain_tokens(captions: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: [" ".join(re.findall(r"[\w']+", text.lower())) for text in texts] for name, texts in captions.items()}
