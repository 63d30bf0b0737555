"""Captions cut into words as for published scores: by the Penn Treebank (PTB) tokenizer, a Java program.

    >>> ptb_tokens({"17": ["A dog isn't running."]})
    {'17': ["a dog is n't running"]}

Without Java, `plain_tokens` is close, but its scores do not compare with published ones.
"""

import functools
import logging
import re
import shutil
import subprocess
from pathlib import Path

log = logging.getLogger(__name__)

NO_JAVA = (
    "Java was not found, and the PTB tokenizer that published caption scores use needs it: the scores are computed on "
    "plain tokens instead and say so in their names (bleu_4_plain, rouge_l_plain, cider_plain). METEOR, a Java "
    "program itself, is left out. Install a Java runtime (Debian: default-jre-headless; conda: openjdk) to get the "
    "comparable ones."
)
TOKENIZER = ("edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase")


@functools.cache
def has_java() -> bool:
    """Whether Java is there; logs once what its absence means."""
    found = shutil.which("java") is not None
    if not found:
        log.warning(NO_JAVA)
    return found


def one_line(sentence: str) -> str:
    """White space, line and paragraph separators folded: one of these in a caption would shift all later captions."""
    return " ".join(sentence.split())


def ptb_tokens(captions: dict[str, list[str]]) -> dict[str, list[str]]:
    """Tokens without punctuation, in lower case, joined by blanks; Java starts once (half a second) for all.

    The tokenizer reads past the end of a line (whether "the U.S." becomes "the u.s. ." depends on the next caption's
    first letter), so the result depends on the captions' order. Raises RuntimeError with Java's words if a caption is
    lost.
    """
    from pycocoevalcap.tokenizer import ptbtokenizer as field

    # a lone full stop keeps an empty caption's line, and is removed with all punctuation
    lines = [one_line(text) or "." for texts in captions.values() for text in texts]
    # through standard input: pycocoevalcap's own call writes a file into its folder, which may be read-only
    done = subprocess.run(
        ["java", "-cp", field.STANFORD_CORENLP_3_4_1_JAR, *TOKENIZER],
        cwd=Path(field.__file__).parent,
        input="\n".join(lines).encode(errors="replace"),  # half a surrogate pair becomes a question mark
        capture_output=True,
    )
    found = done.stdout.decode().split("\n")
    if done.returncode or len(found) != len(lines):
        said = done.stderr.decode(errors="replace").strip()
        raise RuntimeError(
            f"the PTB tokenizer lost captions: {len(lines)} given, {len(found)} lines back, exit status "
            f"{done.returncode}; Java said: {said}"
        )
    words = ((word for word in line.rstrip().split(" ") if word not in field.PUNCTUATIONS) for line in found)
    kept = map(" ".join, words)
    return {name: [next(kept) for _ in texts] for name, texts in captions.items()}


def plain_tokens(captions: dict[str, list[str]]) -> dict[str, list[str]]:
    """Runs of letters, digits and apostrophes, in lower case, joined by blanks."""
    return {name: [" ".join(re.findall(r"[\w']+", text.lower())) for text in texts] for name, texts in captions.items()}
