"""Writes text with a trained language model.

    python -m scripts.generate logs/shakespeare_lcaam/mini/seed0/<time> --prompt "ann has" --characters 200
    python -m scripts.generate logs/.../checkpoints/best.ckpt --temperature 0.8 --top 10 --seed 3 --samples 2

Prints the prompt and what follows it. RUN is a run's folder or a checkpoint in it. The same seed gives the same text.
Each character is drawn from what the model says after the last --context characters; --stride lets it forget more
than one character at a time, which is faster. --no-cache computes the whole window in every step: the same text.
"""

import sys
from pathlib import Path

import torch

from configs.errors import ConfigError
from datamodules.errors import DataError
from scripts.arguments import parser_for
from scripts.opened import opened
from tasks.common.checkpoints import load_module
from tasks.common.errors import CheckpointError
from tasks.language_model.generation import generate
from tasks.language_model.module import LanguageModel


def load(run: str | Path) -> LanguageModel:
    """The model of a run, in eval mode. Raises as `opened`, and CheckpointError for a file that cannot be read."""
    _, path, _ = opened(run, LanguageModel, "the language model")
    return load_module(LanguageModel, path).eval()


def continued(module: LanguageModel, prompt: str, characters: int, seed: int | None = None, **options) -> str:
    """What follows the prompt. options: those of tasks.language_model.generation.generate.

    Raises ConfigError for a prompt that is empty or has characters that the model does not know.
    """
    if not prompt:
        raise ConfigError("--prompt: empty; give at least one character")
    if lacking := module.vocabulary.lacks(prompt):
        raise ConfigError(
            f"--prompt: the model does not know {lacking!r}; its {len(module.vocabulary)} characters are "
            f"{module.vocabulary.characters!r}"
        )
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    codes = torch.tensor([[ord(one) for one in prompt]], device=module.device)
    ids, _ = module.vocabulary.encode(codes)
    return module.vocabulary.decode(generate(module.model, ids, characters, generator=generator, **options)[0])


def main(arguments: list[str] | None = None) -> None:
    parser = parser_for("generate", __doc__)
    parser.add_argument("run", help="a run's folder, or a checkpoint")
    parser.add_argument("--prompt", default="\n", help="the text to go on with; default: a new line")
    parser.add_argument("--characters", type=int, default=500, help="how many are written")
    parser.add_argument("--temperature", type=float, default=1.0, help="0 takes the most probable character")
    parser.add_argument("--top", type=int, help="draw among so many most probable characters; default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=int, default=1, help="so many texts, with seeds one after the other")
    parser.add_argument("--context", type=int, help="characters that are read at once; default: as in training")
    parser.add_argument("--stride", type=int, default=1, help="characters that a full window forgets")
    parser.add_argument("--no-cache", action="store_true", help="compute the whole window in every step")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args(arguments)
    if given.samples < 1:
        parser.error(f"--samples: at least 1, got {given.samples}")
    options = {"temperature": given.temperature, "top": given.top, "context": given.context, "stride": given.stride}
    options["cache"] = False if given.no_cache else None
    try:
        module = load(given.run)
        try:
            module.to(given.device)
        except (RuntimeError, AssertionError) as error:  # torch raises either
            raise ConfigError(f"--device {given.device}: {str(error).splitlines()[0]}") from error
        for number in range(given.samples):
            text = continued(module, given.prompt, given.characters, given.seed + number, **options)
            print(given.prompt + text, flush=True)
    except (ConfigError, CheckpointError, DataError, ValueError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
