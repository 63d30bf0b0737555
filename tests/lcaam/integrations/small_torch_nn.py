"""Small models of torch.nn, masks for them, and what they compute, written out."""

import pytest
import torch
from torch import nn

from lcaam import LayerMasks
from tests.lcaam.loop import equation

D, H, N, LAYERS = 12, 3, 7, 2
LENGTHS = torch.tensor([7, 4, 1])
PADDED = torch.arange(N) >= LENGTHS[:, None]  # torch's polarity: True = do not attend
CAUSAL = nn.Transformer.generate_square_subsequent_mask(N)


def encoder(seed=0, heads=H, layers=LAYERS, **options):
    torch.manual_seed(seed)
    options = dict(dim_feedforward=16, dropout=0.0, batch_first=True) | options
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(D, heads, **options), layers, enable_nested_tensor=True)
    large_scores(model)
    return model


def large_scores(model):
    """Large enough for attention to matter."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.MultiheadAttention):
                for name, parameter in module.named_parameters():
                    if "in_proj" in name:
                        nn.init.normal_(parameter, std=0.7)


def mask_layers(scope="per_layer", layers=LAYERS, **options):
    torch.manual_seed(1)
    return LayerMasks(scope, layers, **dict(dim=D, num_keys=N, depth=2) | options)


def random_masks(model, seed=2):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.lcaam.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return model


def tokens(batch=3, count=N, seed=3, width=D):
    return torch.randn(batch, count, width, generator=torch.Generator().manual_seed(seed))


def close(found, expected, atol=1e-5):
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


pytestmark = [
    pytest.mark.filterwarnings("ignore:enable_nested_tensor is True"),
    pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors"),
]


def written_out(model, x, scope, fusion, padded=None):
    """A post-norm encoder with masks, one equation per line."""
    first, nets = x, model.lcaam.masks.nets
    for number, layer in enumerate(model.layers):
        mask = nets[number if scope == "per_layer" else 0](first if scope == "shared" else x).dense()
        a = layer.self_attn
        projected = (x @ a.in_proj_weight.T + a.in_proj_bias).chunk(3, -1)
        q, k, v = (part.unflatten(-1, (a.num_heads, -1)).transpose(1, 2) for part in projected)
        score = equation(fusion)(q @ k.transpose(2, 3) / q.shape[-1] ** 0.5, mask)
        if padded is not None:
            score = score.masked_fill(padded[:, None, None], -torch.inf)
        x = layer.norm1(x + a.out_proj((score.softmax(-1) @ v).transpose(1, 2).flatten(2)))
        x = layer.norm2(x + layer.linear2(layer.linear1(x).relu()))
    return x


def static():
    torch.manual_seed(1)
    return LayerMasks("per_layer", LAYERS, kind="static", num_queries=N, num_keys=N, fusion="gate")
