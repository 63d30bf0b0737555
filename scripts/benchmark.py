"""Benchmarks; each prints ratios to something timed in the same run, and writes JSON.

    python -m scripts.benchmark attention --device cpu --out docs/results/benchmark_attention_cpu.json
    python -m scripts.benchmark qd_detr --out docs/results/benchmark_qd_detr_cpu.json

A benchmark is a module of scripts/benchmarks/ with options(parser), check(arguments), benchmark(arguments) -> result
and, if it has them, plot(result, path) and page(result, figure) -> the text between its marks on a page. Absolute
times belong to the machine that the JSON names.
"""

import argparse
import importlib
import os
import sys
from pathlib import Path

import torch

from scripts.arguments import parser_for
from scripts.benchmarks.common import at_least_one, between_marks, write_result

BENCHMARKS = {
    "attention": "one attention call with one mask for all heads, by backend, beside what torch alone can do",
    "precision": "errors of attention in bfloat16 and float16, by backend, beside torch's own attention",
    "qd_detr": "one training step of QD-DETR beside the original's schedule",
    "vit": "one training step of ViT-B/16 with masks beside the step without",
    "captions": "caption scores beside pycocoevalcap's own calls",
    "decoding": "one step of decoding behind a long prompt, with masks beside the same model without",
    "machine_code": "the fused kernels, compiled for GPUs that need not be there: registers and instructions",
    "describing": "audio description: generation from a prefix that is projected once, beside once per word",
    "captioning": "SwinBERT: decoding with and without the cache, memory of a training step with masks",
}


def main(arguments: list[str] | None = None) -> None:
    given = sys.argv[1:] if arguments is None else arguments
    parser = parser_for("benchmark", __doc__)
    commands = parser.add_subparsers(required=True, metavar="BENCHMARK")
    for name, summary in BENCHMARKS.items():
        command = commands.add_parser(name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter)
        command.set_defaults(name=name)
        if name in given[:1]:  # the others' imports take seconds
            module = importlib.import_module(f"scripts.benchmarks.{name}")
            command.description = module.__doc__
            module.options(command)
        command.add_argument("--threads", type=at_least_one, default=1)
        command.add_argument("--out", type=Path, help="JSON file; the plot, if there is one, is beside it as .png")
        if name in given[:1] and hasattr(module, "page"):
            command.add_argument("--page", type=Path, help="Markdown page whose block is replaced; needs --out")
    chosen = parser.parse_args(given)
    module = importlib.import_module(f"scripts.benchmarks.{chosen.name}")
    try:
        module.check(chosen)
        if page := getattr(chosen, "page", None):
            if not chosen.out:
                raise ValueError("--page shows what --out writes: give both")
            between_marks(page.read_text(encoding="utf-8"), chosen.name, "")
    except (ValueError, OSError) as error:
        parser.error(str(error))
    torch.set_num_threads(chosen.threads)
    result = module.benchmark(chosen)
    if chosen.out:
        write_result(chosen.out, result)
        if hasattr(module, "plot"):
            module.plot(result, chosen.out.with_suffix(".png"))
    if page:
        figure = Path(os.path.relpath(chosen.out.with_suffix(".png"), page.parent)).as_posix()
        text = between_marks(page.read_text(encoding="utf-8"), chosen.name, module.page(result, figure))
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
