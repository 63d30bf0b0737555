"""SwinBERT's static mask before the first step, at its published size, on random features and words.

    python -m scripts.studies.static_mask init --out docs/results/static_mask_init.json

The same weights and the same table t are read in two ways: as published, the bias (1 - sigmoid(t)) * -1e4, and as log
sigmoid(t). Gradients are those of the caption loss of one video and of the sparsity loss with its configured weight,
without dropout. The logits are compared with those under an identity video mask, which lets a video token look at
itself alone, and with those of full attention. Whether an entry passes anything depends on the draw of the table, so
that is counted in 100 others as well.
"""

import argparse
import time
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from omegaconf import OmegaConf
from torch import Tensor

from configs.composing import composed
from lcaam import LayerMasks, StaticMask
from scripts.benchmarks.common import at_least_one
from scripts.studies.static_mask.openness import (
    HALF,
    LEAST,
    bias,
    gradient,
    off_diagonal,
    openness,
    scientific,
    sigmoid_for,
    table_gradient,
)
from tasks.video_captioning.beam_search import Special
from tasks.video_captioning.bert import may_attend
from tasks.video_captioning.masking import hide
from tasks.video_captioning.model import SwinBert

FORMS = {"published": "static_swinbert", "log sigmoid": "static_logsigmoid"}  # and their mask's configuration
COLOURS = {"published": "#35608d", "log sigmoid": "#e08e2b"}
SMALL = dict(vocab_size=60, feature_dim=16, video_tokens=18, text_tokens=22, video_dim=8, width=16, layers=2, heads=2)
SMALL |= dict(feedforward=32, positions=32)
DRAWS = 100  # tables that are drawn
SIZES = np.logspace(-2, 4, 121)  # sizes of a bias, edges of the histogram
POWERS = np.arange(-46.0, 0.5, 0.5)  # powers of ten, the same for gradients
ADAM_EPS = 1e-8  # AdamW divides by the gradient's size plus this


def mask_of(name: str) -> dict[str, Any]:
    """The mask node of mask=<name> in video captioning."""
    return OmegaConf.to_container(composed("experiment=msrvtt_baseline", f"mask={name}").mask, resolve=True)


def options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--layers", type=at_least_one, help="layers of BERT, if 12 are too slow")
    command.add_argument("--seed", type=int, default=0, help="seed of weights, table, features and words")
    command.add_argument("--small", action="store_true", help="a tiny model, to try the command")


def study(arguments: argparse.Namespace) -> dict[str, Any]:
    forms, logits = {}, {}
    for form, name in FORMS.items():
        start, mask = time.perf_counter(), mask_of(name)
        model = model_of(arguments, mask)
        net, batch = model.stack.masks.nets[0], batch_of(model, arguments.seed)
        forms[form] = {"mask": name} | of_the_table(net)
        loss = model.loss(*batch)
        forms[form] |= {"caption_loss": loss.item(), "caption_gradient": of_the_gradient(net, loss)}
        weighted = mask["sparsity"] * net.sparsity_loss()
        forms[form] |= {"sparsity": mask["sparsity"], "sparsity_gradient": gradient(net, weighted)}
        logits[form] = logits_of(model, *batch, masks=model.stack.masks)
        forms[form]["seconds"] = time.perf_counter() - start
    none = LayerMasks("none", model.stack.masks.num_layers)
    logits["identity"] = logits_of(model, *batch, masks=none, alone=True)
    logits["full"] = logits_of(model, *batch, masks=none)
    for form in FORMS:
        own = {other: (logits[form] - logits[other]).abs().max().item() for other in ("identity", "full")}
        forms[form]["logits_differ_from"] = own
    sizes = {"video_tokens": model.video_tokens, "text_tokens": model.text_tokens}
    sizes |= {"width": model.embeddings.word_embeddings.embedding_dim, "layers": none.num_layers, "batch": 1}
    return {
        "sizes": sizes,
        "entries": net.table.numel() - len(net.table),
        "passes_from": sigmoid_for(LEAST, "add"),
        "half_open_from": sigmoid_for(HALF, "add"),
        "logits_deviation": logits["full"].std().item(),
        "forms": forms,
        "draws": other_draws(model.video_tokens),
    }


def model_of(arguments: argparse.Namespace, mask: dict[str, Any]) -> SwinBert:
    """Random weights, the same for every mask of a table; only the table asks for a gradient. No dropout."""
    sizes = (SMALL if arguments.small else {}) | ({"layers": arguments.layers} if arguments.layers else {})
    torch.manual_seed(arguments.seed)
    model = SwinBert(**sizes, mask=mask, backend="reference").eval().requires_grad_(False)
    model.stack.masks.requires_grad_(True)
    return model


def batch_of(model: SwinBert, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One video: features (1, V, C), words with half of them hidden (1, T), labels (1, T), and which are real: all."""
    generator = torch.Generator().manual_seed(seed + 1)
    special = Special() if model.vocab_size > 103 else Special(0, 1, 2, 3)
    features = torch.randn(1, model.video_tokens, model.feature_dim, generator=generator)
    ids = torch.randint(special.mask + 1, model.vocab_size, (1, model.text_tokens), generator=generator)
    lengths = torch.tensor([model.text_tokens])
    inputs, labels = hide(ids, lengths, special.mask, model.vocab_size, generator=generator)
    return features, inputs, labels, torch.ones_like(ids, dtype=torch.bool)


@torch.no_grad()
def logits_of(
    model: SwinBert, features: Tensor, ids: Tensor, labels: Tensor, keep: Tensor, masks: LayerMasks, alone: bool = False
) -> Tensor:
    """(1, T, vocabulary). alone: a video token may look at itself only."""
    video = model.video_tokens
    may = may_attend(keep, video)  # (1, 1, N, N)
    if alone:
        may[..., :video, :video] = torch.eye(video, dtype=torch.bool)
    x = torch.cat([model.embed_video(features), model.embed_text(ids)], 1)
    return model.head(model.stack(x, may, masks=masks)[:, video:])


def of_the_table(net: StaticMask) -> dict[str, Any]:
    values = bias(net)
    counts, _ = np.histogram(-values.numpy(), SIZES)
    found = {"mean": values.mean().item(), "largest": values.max().item(), "least": values.min().item()}
    return {"bias": found | {"counts": counts.tolist()}, "factor": values.max().exp().item()} | openness(net)


def of_the_gradient(net: StaticMask, loss: Tensor) -> dict[str, Any]:
    """The result of openness.gradient, and `counts`: how many entries other than 0 have which power of ten."""
    values = table_gradient(net, loss).abs()
    counts, _ = np.histogram(values[values > 0].log10().numpy(), POWERS)
    found = {"nonzero": (values != 0).double().mean().item(), "largest": values.max().item()}
    return found | {"norm": values.norm().item(), "counts": counts.tolist()}


def other_draws(video: int) -> dict[str, Any]:
    """In other tables than this one, for each form: how many off-diagonal entries pass anything, and are half open."""
    counted = {form: {"passes": [], "half_open": []} for form in FORMS}
    for seed in range(1, DRAWS + 1):
        torch.manual_seed(seed)
        net = StaticMask(video, video)
        weights = off_diagonal(net, net.table.detach()).double().sigmoid()
        for counts, fusion in zip(counted.values(), ("add", "gate"), strict=True):
            for found, level in zip(counts.values(), (LEAST, HALF), strict=True):
                found.append((weights >= sigmoid_for(level, fusion)).sum().item())
    summary = {
        form: {name: {"mean": float(np.mean(found)), "most": max(found)} for name, found in counts.items()}
        for form, counts in counted.items()
    }
    return {"tables": DRAWS} | summary


# -- what is shown ----------------------------------------------------------------------------------------------------


def table(result: dict[str, Any]) -> str:
    """Markdown: one row per number, one column per form."""
    forms, entries = list(result["forms"].values()), result["entries"]

    def row(name: str, cells: list[str]) -> str:
        return f"| {name} | {' | '.join(cells)} |"

    def share(values: list[float]) -> list[str]:
        return [f"{round(value * entries):,} ({100 * value:.3g} %)" for value in values]

    def draws(field: str, what: str) -> list[str]:
        counted = [result["draws"][form][field] for form in result["forms"]]
        cells = [f"{found['mean']:,.1f}, {found['most']:,}" for found in counted]
        return [row(f"entries that {what} in {result['draws']['tables']} other draws of t, mean and most", cells)]

    caption, sparsity = ([form[f"{name}_gradient"] for form in forms] for name in ("caption", "sparsity"))
    names = {"published": "published: (1 - sigmoid(t)) * -1e4", "log sigmoid": "log sigmoid(t)"}
    lines = [row(f"{entries:,} entries off the diagonal", [names[form] for form in result["forms"]]), "|---" * 3 + "|"]
    lines += [
        row("bias, mean", [f"{form['bias']['mean']:,.4g}" for form in forms]),
        row("bias, largest", [f"{form['bias']['largest']:.3g}" for form in forms]),
        row("largest factor on an attention weight", [f"{form['factor']:.2g}" for form in forms]),
        row("entries that pass anything in float32", share([form["passes"] for form in forms])),
        row("entries at least half open", share([form["half_open"] for form in forms])),
        *draws("passes", "pass anything"),
        *draws("half_open", "are half open"),
        row("caption loss: entries with a gradient", share([found["nonzero"] for found in caption])),
        row("caption loss: largest gradient", [scientific(found["largest"]) for found in caption]),
        row("weight of the sparsity loss", [f"{form['sparsity']:g}" for form in forms]),
        row("sparsity loss: entries with a gradient", share([found["nonzero"] for found in sparsity])),
        row("sparsity loss: largest gradient", [scientific(found["largest"]) for found in sparsity]),
    ]
    for other, name in (("identity", "an identity video mask"), ("full", "full attention")):
        cells = [f"{form['logits_differ_from'][other]:.2g}" for form in forms]
        lines.append(row(f"logits: largest difference from {name}", cells))
    sizes = result["sizes"]
    lines[:0] = [
        f"{sizes['batch']} video of {sizes['video_tokens']} tokens and {sizes['text_tokens']} words, {sizes['layers']} "
        f"layers of width {sizes['width']}; standard deviation of the logits {result['logits_deviation']:.2g}.",
        "",
    ]
    return "\n".join(lines)


def plot(result: dict[str, Any]) -> Figure:
    """The published biases and where float32 cuts them off; the gradients of both forms."""
    figure = Figure(figsize=(9.6, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    forms = [(form, result["forms"][form], colour) for form, colour in COLOURS.items()]
    for form, found, colour in forms:
        left.stairs(found["bias"]["counts"], SIZES, fill=True, color=colour, label=form)
    cut = -np.log(LEAST)
    left.axvline(cut, color="#c0392b", linewidth=1, label=f"softmax in float32: 0 beyond {cut:.0f}")
    left.set(title="what is taken off the scores at initialisation", xlabel="minus the bias", xscale="log")
    reached = sum(np.array(found["caption_gradient"]["counts"]) for _, found, _ in forms) > 0
    lowest = POWERS[:-1][reached].min(initial=-14)
    for form, found, colour in forms:
        gradients = found["caption_gradient"]
        zero = round((1 - gradients["nonzero"]) * result["entries"])
        label = f"{form}: {zero:,} of {result['entries']:,} are 0"
        right.stairs(gradients["counts"], POWERS, fill=True, color=colour, label=label)
        right.bar(lowest - 2, zero, 0.5, color=colour)
    ticks = np.arange(4 * np.ceil(lowest / 4), 1, 4)
    right.set_xticks([lowest - 2, *ticks], ["0", *(rf"$10^{{{tick:.0f}}}$" for tick in ticks)])
    right.axvline(np.log10(ADAM_EPS), color="0.5", linewidth=1, linestyle="--", label="AdamW's eps")
    right.set(title="gradient of the caption loss on the table", xlabel="magnitude", xlim=(lowest - 3, 0))
    for axes in (left, right):
        axes.set(yscale="log", ylim=(0.5, 100 * result["entries"]))
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=8, loc="upper left")
    left.set_ylabel("entries off the diagonal")
    return figure
