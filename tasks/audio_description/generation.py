"""How a description is decoded: named presets, any option of which can be changed (task.decoding in the configuration).

Decoding(preset="autoad", num_beams=3).generate_options(prompt_length=12)
"""

from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from transformers import LogitsProcessor, LogitsProcessorList, NoRepeatNGramLogitsProcessor
from transformers import RepetitionPenaltyLogitsProcessor as RepetitionPenalty

from configs.knobs import Count, Natural, NotNegative, Positive, PositiveShare, check_ranges

PRESETS: dict[str, dict[str, Any]] = {
    "greedy": {"do_sample": False, "max_new_tokens": 64},  # the paper: temperature 0; it states no length
    # AutoAD (Han et al., CVPR 2023) and its successors
    "autoad": {
        "do_sample": False,
        "num_beams": 5,
        "repetition_penalty": 1.2,
        "no_repeat_ngram_size": 3,
        "max_new_tokens": 67,
    },
}

OF_SAMPLING, OF_BEAMS = ("temperature", "top_k", "top_p"), ("length_penalty", "early_stopping")


@dataclass
class Decoding:
    """A preset and what differs from it; None is the preset's value, or else transformers' default.

    The two repetition controls look at what was generated and never at the prompt: neither its padding, which belongs
    to the batch, nor the context sentences in it, which a description may well repeat.
    """

    preset: Literal["greedy", "autoad"] = "greedy"
    max_new_tokens: Count | None = None
    min_new_tokens: Natural | None = None
    do_sample: bool | None = None
    temperature: NotNegative | None = None
    top_k: Natural | None = None
    top_p: PositiveShare | None = None
    num_beams: Count | None = None
    length_penalty: float | None = None
    early_stopping: bool | None = None
    repetition_penalty: Positive | None = None  # 1: none
    no_repeat_ngram_size: Natural | None = None

    def __post_init__(self):
        """Raises ValueError for an impossible value, and for one that would have no effect beside the others."""
        check_ranges(self)
        options = self.options()
        if (least := options.get("min_new_tokens", 0)) > options["max_new_tokens"]:
            raise ValueError(f"min_new_tokens={least} is more than max_new_tokens={options['max_new_tokens']}")
        if options["do_sample"] and self.temperature == 0:
            raise ValueError("temperature=0 leaves nothing to sample; allowed: above 0, or do_sample=false")
        beams = options.get("num_beams", 1)
        for names, used, remedy in (
            (OF_SAMPLING, options["do_sample"], "do_sample=true"),
            (OF_BEAMS, beams > 1, "num_beams above 1"),
        ):
            if not used and (idle := [name for name in names if name in options]):
                raise ValueError(f"{', '.join(idle)} would have no effect; add {remedy}, or leave it out")

    def options(self) -> dict[str, Any]:
        """The preset with the changes: options of transformers' `generate`."""
        given = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "preset"}
        options = PRESETS[self.preset] | {name: value for name, value in given.items() if value is not None}
        if options.get("temperature") == 0 and not options["do_sample"]:
            del options["temperature"]  # the name that papers have for not sampling
        return options

    def generate_options(self, prompt_length: int) -> dict[str, Any]:
        """The same for prompts of `prompt_length` tokens, padding included, with repetition controls that skip them."""
        options = self.options()
        penalty, ngram = options.pop("repetition_penalty", None), options.pop("no_repeat_ngram_size", None)
        processors = []
        if penalty is not None and penalty != 1:
            processors.append(AfterPrompt(RepetitionPenalty(float(penalty)), prompt_length))
        if ngram:
            processors.append(AfterPrompt(NoRepeatNGramLogitsProcessor(ngram), prompt_length))
        return {**options, "logits_processor": LogitsProcessorList(processors)} if processors else options


class AfterPrompt(LogitsProcessor):
    """Shows another processor only the generated tokens."""

    def __init__(self, processor: LogitsProcessor, prompt_length: int):
        self.processor, self.prompt_length = processor, prompt_length

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        return self.processor(input_ids[:, self.prompt_length :], scores)
