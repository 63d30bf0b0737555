"""A mask trained at one length, tested at others, on a retrieval task: does it still work, and does it help?

    python -m scripts.studies.length_retrieval --out docs/results/length_retrieval.json

A sequence holds N - 1 pairs of a random key vector and one of ten values, then a token with a noisy copy of one of the
keys: the answer is that key's value (chance 10 %; `nearest key` looks the nearest one up, about the best that can be
done). Its place is random, so positions tell nothing. A small encoder is trained at N = 64 and tested at 64, 128 and
256, without a mask and with masks of each length option; `fixed` is refused past 64. Accuracies in percent are means
and standard deviations over seeds, 2,000 test sequences each.
"""

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lcaam import Encoder, LayerMasks
from scripts.arguments import parser_for

KEY, VALUES, WIDTH, LAYERS, HEADS = 8, 10, 32, 2, 2
NOISE = 0.2  # standard deviation in each of the key's coordinates
TRAINED, TESTED = 64, (64, 128, 256)
MASKS = {
    "none": {"scope": "none"},
    "fixed": {"scope": "per_layer", "length": "fixed"},
    "interpolate": {"scope": "per_layer", "length": "interpolate"},
    "content": {"scope": "per_layer", "length": "content"},
}


def sequences(count: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Tokens (B, N, KEY + VALUES + 1) and the answers (B,)."""
    keys = F.normalize(torch.randn(count, length, KEY, generator=generator), dim=-1)
    values = torch.randint(VALUES, (count, length), generator=generator)
    asked = torch.randint(length - 1, (count,), generator=generator)
    rows = torch.arange(count)
    keys[:, -1] = keys[rows, asked] + NOISE * torch.randn(count, KEY, generator=generator)
    tokens = torch.cat([keys, F.one_hot(values, VALUES).float(), torch.zeros(count, length, 1)], -1)
    tokens[:, -1, KEY:] = 0.0
    tokens[:, -1, -1] = 1.0  # this one asks
    return tokens, values[rows, asked]


class Retriever(nn.Module):
    def __init__(self, mask: dict, fusion: str):
        super().__init__()
        options = {} if mask["scope"] == "none" else {"dim": WIDTH, "num_keys": TRAINED, "fusion": fusion}
        masks = LayerMasks(num_layers=LAYERS, **mask, **options)
        self.embed = nn.Linear(KEY + VALUES + 1, WIDTH)
        self.encoder = Encoder(WIDTH, LAYERS, HEADS, masks=masks, fusion=fusion)
        self.answer = nn.Linear(WIDTH, VALUES)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.answer(self.encoder(self.embed(tokens))[:, -1])


def nearest_key(tokens: Tensor) -> Tensor:
    """Logits (B, VALUES) of looking up the key that is nearest to the asked one."""
    similar = (tokens[:, :-1, :KEY] @ tokens[:, -1, :KEY, None]).squeeze(-1)  # (B, N - 1)
    return tokens[torch.arange(len(tokens)), similar.argmax(-1), KEY : KEY + VALUES]


def accuracy(model: Callable[[Tensor], Tensor], length: int) -> float | None:
    """Percent of right answers; None if the mask refuses the length."""
    right, generator = 0, torch.Generator().manual_seed(10_000 + length)
    for _ in range(10):
        tokens, answers = sequences(200, length, generator)
        try:
            with torch.no_grad():
                right += (model(tokens).argmax(-1) == answers).sum().item()
        except ValueError as error:
            if "interpolate" not in str(error):  # only the refusal of a longer sequence is expected here
                raise
            return None
    return right / 20


def train(mask: dict, fusion: str, seed: int, steps: int) -> Retriever:
    torch.manual_seed(seed)
    model, generator = Retriever(mask, fusion), torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    for _ in range(steps):
        tokens, answers = sequences(64, TRAINED, generator)
        loss = F.cross_entropy(model(tokens), answers)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return model.eval()


def main() -> None:
    parser = parser_for("studies.length_retrieval", __doc__)
    parser.add_argument("--fusions", nargs="+", default=["mul", "add"])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="JSON file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = [{"mask": "nearest key", "accuracy": {n: [accuracy(nearest_key, n)] for n in TESTED}}]
    print("nearest key   ", {n: v[0] for n, v in rows[0]["accuracy"].items()}, flush=True)
    for name, mask in MASKS.items():
        for fusion in ["none"] if name == "none" else arguments.fusions:
            models = [train(mask, fusion, seed, arguments.steps) for seed in range(arguments.seeds)]
            parameters = sum(p.numel() for p in models[0].parameters())
            row = {"mask": name, "fusion": fusion, "parameters": parameters, "accuracy": {}}
            for length in TESTED:
                found = [accuracy(model, length) for model in models]
                row["accuracy"][length] = None if None in found else found
            rows.append(row)
            cells = [f"N={n}: " + summary(v) for n, v in row["accuracy"].items()]
            print(f"{name:<12} {fusion:<5} {parameters:>7,} parameters  " + "   ".join(cells), flush=True)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        command = shlex.join(["python", "-m", "scripts.studies.length_retrieval", *sys.argv[1:]])
        arguments.out.write_text(json.dumps({"command": command, "rows": rows}, indent=1) + "\n")


def summary(values: list[float] | None) -> str:
    if values is None:
        return "refused"
    return f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else f"{values[0]:.1f}"


if __name__ == "__main__":
    main()
