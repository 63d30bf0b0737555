"""Generation for audio description: the prefix projected once per layer, beside once per layer and word.

    python -m scripts.benchmark describing --out docs/results/benchmark_describing_cpu.json

A LLaMA of --layers layers with LLaMA-7B's other sizes and random weights in bfloat16 writes --words words for each of
--batch samples, from --prompts prompts in every layer. The two take turns, the median counts; words that differ stop
the benchmark. A whole LLaMA-7B differs in that its first two layers read no prefix, and its vocabulary weighs less.
"""

import argparse
import statistics
import time

import torch
from torch import Tensor, nn
from transformers import LlamaConfig

from scripts.benchmarks.common import about, at_least_one
from tasks.audio_description.language_model import LLAMA_7B
from tasks.audio_description.prefix import PrefixLlama, Prompts

SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4}
VOCABULARY, BEGINNING = 32_000, (1, 20, 21)


class Forgetful(Prompts):
    """The prefix of a layer that projects it again for each word, as LLaMA-Adapter's release does."""

    def read(self, attention: nn.Module, layer: int, rows: int) -> Tensor:
        self.kept.clear()
        return super().read(attention, layer, rows)


def options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", default="cpu", help="cpu or cuda")
    command.add_argument("--layers", type=at_least_one, default=4)
    command.add_argument("--prompts", type=at_least_one, default=10)
    command.add_argument("--words", type=at_least_one, default=20)
    command.add_argument("--batch", type=at_least_one, default=[1, 8], nargs="+")
    command.add_argument("--repeats", type=at_least_one, default=3)
    command.add_argument("--small", action="store_true", help="a tiny model, to try the command")


def check(arguments: argparse.Namespace) -> None:
    """Everything that the parser lets pass can be measured."""


def model_of(arguments: argparse.Namespace) -> PrefixLlama:
    sizes = LLAMA_7B | {"num_hidden_layers": arguments.layers} | (SMALL if arguments.small else {})
    torch.manual_seed(0)
    with torch.device(arguments.device):
        llm = PrefixLlama(LlamaConfig(vocab_size=VOCABULARY, pad_token_id=0, eos_token_id=None, **sizes))
    return llm.bfloat16().eval()


def timed(llm: PrefixLlama, prefix: Prompts, words: int) -> tuple[Tensor, float]:
    """The words, and the seconds that writing them took: on a CPU the process's own, whatever else runs."""
    ids = torch.tensor([BEGINNING] * len(prefix.prompts), device=llm.device)
    options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": words, "min_new_tokens": words}
    clock = time.perf_counter if ids.is_cuda else time.process_time
    start = clock()
    out = llm.generate(input_ids=ids, prefix=prefix, do_sample=False, **options)
    if out.is_cuda:
        torch.cuda.synchronize()
    return out, clock() - start


@torch.no_grad()
def benchmark(arguments: argparse.Namespace) -> dict:
    llm, rows = model_of(arguments), []
    for batch in arguments.batch:
        generator = torch.Generator().manual_seed(1)
        shape = (batch, arguments.layers, arguments.prompts, llm.config.hidden_size)
        prompts = torch.randn(shape, generator=generator).to(llm.device)
        gates = torch.ones(arguments.layers, llm.config.num_attention_heads, device=llm.device)
        times: dict[type[Prompts], list[float]] = {Prompts: [], Forgetful: []}
        for _ in range(arguments.repeats):
            found = []
            for kind, seconds in times.items():
                words, took = timed(llm, kind(llm, prompts, gates), arguments.words)
                found.append(words)
                seconds.append(took)
            if not torch.equal(*found):
                raise RuntimeError("words from a prefix that is projected once and per word differ")
        once, each = (statistics.median(seconds) for seconds in times.values())
        row = {"batch": batch, "layers": arguments.layers, "prompts": arguments.prompts, "words": arguments.words}
        rows.append(row | {"seconds": once, "seconds_projecting_per_word": each, "as_fast": each / once})
        print(
            f"batch {batch}, {arguments.words} words: {once:.2f} s with a prefix projected once, {each:.2f} s with one "
            f"projected for each word: {each / once:.2f} x as fast",
            flush=True,
        )
    return about(arguments.device) | {"rows": rows}
