"""A small captioner with random weights that matter, and inputs of awkward sizes."""

import torch
from torch import nn

from lcaam import StaticMask
from lcaam.layers import LastLayer
from tasks.video_captioning.beam_search import Special
from tasks.video_captioning.model import SwinBert
from tests.lcaam.names import FUSIONS, SCOPES

SPECIAL = Special(pad=0, cls=1, sep=2, mask=3)
VOCABULARY, VIDEO, TEXT, WIDTH = 23, 7, 11, 12

NONE = {"scope": "none", "kind": "context", "fusion": "none", "depth": 1, "hidden": None, "rank": None, "groups": 1}
NONE |= {"residual": False, "init": "identity", "length": "fixed", "num_keys": None, "hard": False, "sparsity": 0.0}
NONE |= {"control": "none", "control_residual": True}
CONTEXT = NONE | {"scope": "shared", "fusion": "mul", "depth": 2}
STATIC = NONE | {"scope": "shared", "kind": "static", "fusion": "add"}

MASKS = {"none": NONE}
MASKS |= {f"{s} mul": CONTEXT | {"scope": s} for s in SCOPES}
MASKS |= {f"per_layer {f}": CONTEXT | {"scope": "per_layer", "fusion": f} for f in FUSIONS}
MASKS |= {"ranks and groups": CONTEXT | {"rank": 2, "groups": 3}}
MASKS |= {f"content {s}": CONTEXT | {"scope": s, "length": "content"} for s in SCOPES}
MASKS |= {f"static {f}": STATIC | {"fusion": f} for f in StaticMask.fusions}
MASKS |= {"static hard": STATIC | {"hard": True}, "static per layer": STATIC | {"scope": "per_layer"}}
MASKS |= {"extra linear": CONTEXT | {"scope": "per_layer", "depth": 4, "control": "extra_linear"}}
MASKS |= {"extra layers": CONTEXT | {"scope": "per_layer", "depth": 5, "control": "extra_layers"}}


def captioner(mask=None, seed=0, std=0.5, **changes) -> SwinBert:
    """A model in eval mode and float64; weights, those of masks too, are drawn from N(0, std): nothing is neutral."""
    torch.manual_seed(seed)
    sizes = dict(vocab_size=VOCABULARY, feature_dim=5, video_tokens=VIDEO, text_tokens=TEXT, video_dim=6, width=WIDTH)
    sizes |= dict(layers=2, heads=3, feedforward=20, positions=16, mask=mask)
    model = SwinBert(**sizes | changes)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding | LastLayer):
            nn.init.normal_(module.weight, std=std)
            if getattr(module, "bias", None) is not None:
                nn.init.normal_(module.bias, std=std)
    return model.double().eval()


def videos(batch=3, tokens=VIDEO, seed=1) -> torch.Tensor:
    return torch.randn(batch, tokens, 5, generator=torch.Generator().manual_seed(seed)).double()


def words(batch=3, length=TEXT, seed=2) -> torch.Tensor:
    return torch.randint(4, VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(seed))


def real(*lengths, text=TEXT) -> torch.Tensor:
    return torch.arange(text) < torch.tensor(lengths)[:, None]
