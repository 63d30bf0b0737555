"""Scores of generated sentences, as the captioning field computes them (pycocoevalcap), in percent.

    >>> score_captions({"17": "a dog runs ."}, {"17": ["a dog is running ."]})
    {'rouge_l': 55.7..., 'cider': 0.0}

    >>> scorer = CaptionScorer({"video0": ["a dog is running", "a dog runs"], "video1": ["a man sings"]})
    >>> scorer.score({"video0": "a dog runs", "video1": "a man"})
    {'bleu_1': ..., 'bleu_2': ..., 'bleu_3': ..., 'bleu_4': ..., 'rouge_l': ..., 'cider': ..., 'meteor': ...}

The field tokenises with the PTB tokenizer, a Java program. Without Java the scores are computed on plain tokens (lower
case, punctuation removed) and their names say so, `rouge_l_plain` and `cider_plain`: they are close, but not
comparable; METEOR is left out. `cider` is what the field calls CIDEr: CIDEr-D, with clipped counts and a penalty for
different lengths.

Over several ranks the scores are those of one process, bit for bit (tasks.common.gather):

    rows = gather_rows(self.predictions, "video_id")
    scores = on_first_rank(lambda: scorer.score({row["video_id"]: row["generated"] for row in rows}))
"""

import difflib
import functools
from collections.abc import Collection, Iterable

from tasks.common.caption_tokens import has_java, plain_tokens, ptb_tokens
from tasks.common.meteor import METEOR

METRICS = ("bleu", "rouge_l", "cider", "meteor")  # bleu: bleu_1 to bleu_4
Sentences = dict[str, list[str]]


def score_captions(
    generated: dict[str, str], references: Sentences, metrics: Collection[str] = ("rouge_l", "cider")
) -> dict[str, float]:
    """Corpus scores in percent (CIDEr's own range is 0 to 10, so 0 to 1000 here).

    generated: one sentence per id; references: one or more per id; metrics: of METRICS. Empty sentences score 0;
    CIDEr's word weights come from `references`, so its value depends on the whole set, and is 0 for a single id.
    Raises ValueError for no sentences, for differing ids and for references that have no words.
    """
    check_metrics(metrics)
    check_captions(generated)
    if not generated or generated.keys() != references.keys():
        raise ValueError(
            f"captions and references must share their ids and not be empty: {len(generated)} captions, "
            f"{len(references)} references, {len(generated.keys() & references.keys())} ids in both"
        )
    check_references(references)
    prepare(metrics)
    # both at once, since every start of Java costs half a second; the hypothesis comes first
    tokens = tokenise({name: [sentence, *references[name]] for name, sentence in generated.items()})
    hypotheses = {name: sentences[:1] for name, sentences in tokens.items()}
    return score_tokens({name: sentences[1:] for name, sentences in tokens.items()}, hypotheses, metrics)


class CaptionScorer:
    """Scores captions against the same references again and again; they are tokenised once, when first needed.

    references: one or more sentences per id; captions are scored in the order of the references, whatever their own.
    Raises ValueError for no ids, an id without references, and a reference that is not text.
    """

    def __init__(self, references: Sentences):
        if not references:
            raise ValueError("captions need references to be scored against; there are none")
        check_references(references)
        self.references = references

    @functools.cached_property
    def tokens(self) -> Sentences:
        return tokenise(self.references)

    def score(self, generated: dict[str, str], *, meteor: bool = True, partial: bool = False) -> dict[str, float]:
        """Corpus scores in percent: bleu_1 to bleu_4, rouge_l, cider (0 to 1000; it needs many ids), meteor.

        generated: a sentence per id; an empty one scores 0 (in ROUGE-L 1 if a reference is empty as well). Captions
        and references are tokenised apart. meteor: its program starts with the first call that wants it (8 s or more,
        0.6 GB) and stays. partial: ids without a caption are left out together with their references; otherwise they
        raise ValueError, as an unknown id always does.
        """
        check_captions(generated)
        if unknown := [name for name in generated if name not in self.references]:
            raise ValueError(f"{len(unknown)} captions have no references, the first of them {unknown[0]!r}")
        missing = [name for name in self.references if name not in generated]
        if missing and not (partial and generated):
            raise ValueError(
                f"{len(missing)} of {len(self.references)} ids have no caption, the first of them {missing[0]!r}; "
                "partial=True scores the others alone"
            )
        names = [name for name in self.references if name in generated]
        wanted = [metric for metric in METRICS if meteor or metric != "meteor"]
        prepare(wanted)
        hypotheses = tokenise({name: [generated[name]] for name in names})
        return score_tokens({name: self.tokens[name] for name in names}, hypotheses, wanted)


def prepare(metrics: Collection[str]) -> None:
    """Starts METEOR, which then reads its tables while the other scores are computed."""
    if "meteor" in metrics and has_java():
        METEOR.start()


def tokenise(captions: Sentences) -> Sentences:
    return ptb_tokens(captions) if has_java() else plain_tokens(captions)


def score_tokens(references: Sentences, hypotheses: Sentences, metrics: Collection[str]) -> dict[str, float]:
    """`metrics` of tokenised sentences, one hypothesis per id, in percent and in the order of METRICS."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    if not any(sentence for sentences in references.values() for sentence in sentences):
        raise ValueError(f"the references of all {len(references)} captions are empty, or punctuation alone")
    scores = {}
    if "bleu" in metrics:
        values = Bleu(4).compute_score(references, hypotheses, verbose=0)[0]
        scores |= {f"bleu_{order}": value for order, value in enumerate(values, 1)}
    if "rouge_l" in metrics:
        scores["rouge_l"] = Rouge().compute_score(references, hypotheses)[0]
    if "cider" in metrics:
        scores["cider"] = Cider().compute_score(references, hypotheses)[0]
    if "meteor" in metrics and has_java():
        scores["meteor"] = METEOR.score(references, hypotheses)
    suffix = "" if has_java() else "_plain"
    return {f"{name}{suffix}": 100 * float(value) for name, value in scores.items()}


def cider_remarks(ids: Collection[str]) -> tuple[str, ...]:
    """Why CIDEr is 0, if there is one id alone; otherwise nothing."""
    if len(ids) != 1:
        return ()
    return (
        f"CIDEr of a single id ({next(iter(ids))}) is 0 by its definition: a word weighs the less the more of the ids' "
        "references have it, and here all of them have every word; it needs several ids",
    )


def best_constant(texts: list[str], candidates: int, references: int) -> str:
    """The one of `candidates` sentences from `texts` that has the best mean CIDEr if it is given as every answer.

    It is scored against `references` sentences from `texts`, on plain tokens; both are spread evenly over the list.
    """
    from pycocoevalcap.cider.cider import Cider

    tokens = plain_tokens({"": texts})[""]
    tried, asked = (range(0, len(texts), max(1, len(texts) // count))[:count] for count in (candidates, references))
    pairs = [(i, j) for i in tried for j in asked]
    scores = Cider().compute_score({p: [tokens[p[1]]] for p in pairs}, {p: [tokens[p[0]]] for p in pairs})[1]
    return texts[tried[int(scores.reshape(len(tried), -1).mean(1).argmax())]]


# -- what is refused --------------------------------------------------------------------------------------------------


def check_metrics(metrics: Collection[str]) -> None:
    if isinstance(metrics, str) or not metrics:
        raise ValueError(f"metrics={metrics!r} must be a collection of at least one of {', '.join(METRICS)}")
    for metric in metrics:
        if metric not in METRICS:
            near = difflib.get_close_matches(str(metric), METRICS, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"there is no caption metric {metric!r}, only {', '.join(METRICS)}{hint}")


def check_captions(generated: dict[str, str]) -> None:
    check_texts("caption", generated.items())


def check_references(references: Sentences) -> None:
    for name, sentences in references.items():
        if not isinstance(sentences, list | tuple) or not sentences:  # a text's letters would pass for references
            raise ValueError(f"the references of {name!r} must be a list of at least one text, not {sentences!r}")
    check_texts("reference", ((name, text) for name, texts in references.items() for text in texts))


def check_texts(kind: str, texts: Iterable[tuple[str, str]]) -> None:
    for name, text in texts:
        if not isinstance(text, str):
            raise ValueError(f"a {kind} of {name!r} must be text, got {type(text).__name__}: {text!r}")
