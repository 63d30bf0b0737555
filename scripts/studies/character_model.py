"""nanoGPT's small setting for characters in plain torch, beside this project's language model: do they learn alike?

    python -m scripts.studies.character_model input.txt --out docs/results/character_model.json

The model is written here from its description, with nothing of lcaam, tasks or Lightning: learned positions, pre-norm
layers with causal attention and GELU, no biases, a head tied to the embedding; 4 layers, width 128, 4 heads, windows of
64 characters from random places, 12 per step, AdamW 1e-3 (0.9, 0.99), weight decay 0.1 on matrices, 100 steps of
warm-up, a cosine to a tenth, gradients clipped at 1. Then experiment=shakespeare_baseline scale=mini trains on the same
text. Both train on its first 90 %, and the loss is that of all its last 10 % in windows of 64, in nats per character.
"""

import json
import math
import shlex
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scripts.arguments import parser_for


@dataclass(frozen=True)
class Sizes:
    """The small setting."""

    context: int = 64
    width: int = 128
    layers: int = 4
    heads: int = 4
    batch: int = 12
    steps: int = 2000
    warmup: int = 100
    rate: float = 1e-3
    final: float = 0.1  # share of the rate at the end


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width, bias=False), nn.LayerNorm(width, bias=False)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.qkv(self.norm_1(x)).chunk(3, -1))
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm_2(x))))


class PlainModel(nn.Module):
    """ids (B, T) -> logits (B, T, vocabulary)."""

    def __init__(self, vocabulary: int, sizes: Sizes):
        super().__init__()
        self.characters, self.places = nn.Embedding(vocabulary, sizes.width), nn.Embedding(sizes.context, sizes.width)
        self.blocks = nn.ModuleList(Block(sizes.width, sizes.heads) for _ in range(sizes.layers))
        self.norm = nn.LayerNorm(sizes.width, bias=False)
        for name, weight in self.named_parameters():
            if weight.dim() > 1:
                residual = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * sizes.layers) if residual else 0.02)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.characters(ids) + self.places.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.norm(x) @ self.characters.weight.T


def optimiser_of(model: nn.Module, sizes: Sizes) -> torch.optim.AdamW:
    matrices = [weight for weight in model.parameters() if weight.dim() > 1]
    vectors = [weight for weight in model.parameters() if weight.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=sizes.rate, betas=(0.9, 0.99))


def rate_at(step: int, sizes: Sizes) -> float:
    if step < sizes.warmup:
        return sizes.rate * (step + 1) / sizes.warmup
    done = (step - sizes.warmup) / (sizes.steps - sizes.warmup)
    return sizes.rate * (sizes.final + (1 - sizes.final) * 0.5 * (1 + math.cos(math.pi * done)))


def step_of(model: nn.Module, optimiser: torch.optim.Optimizer, windows: Tensor, rate: float) -> float:
    """One update on windows (B, T + 1); the loss before it."""
    for group in optimiser.param_groups:
        group["lr"] = rate
    logits = model(windows[:, :-1])
    loss = F.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    return loss.item()


@torch.no_grad()
def loss_of(model: nn.Module, text: Tensor, context: int) -> float:
    """Mean nats of all characters but the first, in windows one behind the other."""
    total = 0.0
    for start in range(0, len(text) - 1, context):
        window = text[start : start + context + 1]
        total += float(F.cross_entropy(model(window[None, :-1])[0], window[1:], reduction="sum"))
    return total / (len(text) - 1)


def plain(path: Path, sizes: Sizes, seed: int) -> float:
    """Trains the plain model on the file's first 90 %; its loss on the last 10 %."""
    text = path.read_text(encoding="utf-8")
    known = {one: number for number, one in enumerate(sorted(set(text)))}
    ids = torch.tensor([known[one] for one in text])
    cut = round(0.9 * len(ids))
    torch.manual_seed(seed)
    model = PlainModel(len(known), sizes)
    optimiser, train = optimiser_of(model, sizes), ids[:cut]
    for step in range(sizes.steps):
        starts = torch.randint(len(train) - sizes.context, (sizes.batch,))
        windows = torch.stack([train[start : start + sizes.context + 1] for start in starts.tolist()])
        step_of(model, optimiser, windows, rate_at(step, sizes))
    return loss_of(model.eval(), ids[cut:], sizes.context)


def project(path: Path, sizes: Sizes, seed: int, folder: Path) -> float:
    """The loss of this project's baseline on the same part of the file."""
    from configs.composing import composed
    from datamodules.formats.json_text import read_json
    from train import train

    data = [f"data.files={path}", "data.parts=[0.9,0.1,0]", f"seed={seed}"]
    length = [f"trainer.max_steps={sizes.steps}", f"task.lr={sizes.rate}"]
    quiet = ["logger=csv", "floors.enabled=false", "callbacks.figures=null", f"paths.run_dir={folder}/seed{seed}"]
    cfg = composed("experiment=shakespeare_baseline", "scale=mini", *data, *length, *quiet, f"paths.log_dir={folder}")
    train(cfg)
    return read_json(folder / f"seed{seed}" / "results.json")["metrics"]["loss"]


def main() -> None:
    parser = parser_for("studies.character_model", __doc__)
    parser.add_argument("text", type=Path, help="a text file, UTF-8")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=Sizes.steps)
    parser.add_argument("--rate", type=float, default=Sizes.rate, help="peak learning rate of both")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="JSON file")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    sizes, rows = Sizes(steps=given.steps, warmup=max(1, given.steps // 20), rate=given.rate), []
    for seed in given.seeds:
        row = {"seed": seed, "plain": plain(given.text, sizes, seed)}
        print(f"seed {seed}: plain {row['plain']:.4f}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            row["project"] = project(given.text.absolute(), sizes, seed, Path(folder))
        rows.append(row)
        difference = row["project"] - row["plain"]
        print(f"seed {seed}: plain {row['plain']:.4f}, project {row['project']:.4f}, difference {difference:+.4f}")
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        command = shlex.join(["python", "-m", "scripts.studies.character_model", *sys.argv[1:]])
        given.out.write_text(json.dumps({"command": command, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
