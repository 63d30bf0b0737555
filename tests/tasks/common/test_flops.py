"""FLOPs are matrix products times two, whichever kernel runs."""

import torch
import torch.nn.functional as F
from torch import nn

from lcaam import Encoder, LayerMasks
from tasks.common.flops import count_flops


def test_torchs_fused_attention_counts_as_its_two_products():
    q = torch.randn(1, 4, 50, 16)
    for keep in (None, torch.ones(50, 50, dtype=torch.bool).tril()):
        found = count_flops(nn.Module(), lambda keep=keep: F.scaled_dot_product_attention(q, q, q, attn_mask=keep))
        assert found == 2 * (2 * 4 * 50 * 50 * 16)


def test_an_encoder_counts_the_same_with_every_backend():
    x, n, d = torch.randn(1, 30, 16), 30, 16
    layer = 2 * n * (4 * d * d + 2 * d * 64) + 2 * 2 * n * n * d
    for backend in ("auto", "reference", "sdpa", "chunked"):
        encoder = Encoder(d, 2, heads=2, backend=backend)
        assert count_flops(encoder, lambda encoder=encoder: encoder(x)) == 2 * layer
        assert encoder.layers[0].attention.backend == backend
    masks = LayerMasks("per_layer", 2, dim=d, num_keys=n, depth=1)
    masked = Encoder(d, 2, heads=2, masks=masks)
    assert count_flops(masked, lambda: masked(x)) == 2 * (layer + 2 * n * n * d)
