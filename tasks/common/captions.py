"""ROUGE-L and CIDEr of generated sentences, as the captioning field computes them (pycocoevalcap), in percent.

    >>> score_captions({"17": "a dog runs ."}, {"17": ["a dog is running ."]})
    {'rouge_l': 62.9..., 'cider': ...}

The field tokenises with the PTB tokenizer, a Java program. Without Java the scores are computed on plain tokens (lower
case, punctuation removed) and carry that in their names, `rouge_l_plain` and `cider_plain`: close, but not comparable.
"""

import functools
import logging
import re
import shutil

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
    hypotheses = tokenise({name: [sentence] for name, sentence in generated.items()})
    targets = tokenise(references)
    suffix = "" if java else "_plain"
    return {
        f"rouge_l{suffix}": 100 * float(Rouge().compute_score(targets, hypotheses)[0]),
        f"cider{suffix}": 100 * float(Cider().compute_score(targets, hypotheses)[0]),
    }


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
    return PTBTokenizer().tokenize(lines)


def plain_tokens(captions: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: [" ".join(re.findall(r"[\w']+", text.lower())) for text in texts] for name, texts in captions.items()}
