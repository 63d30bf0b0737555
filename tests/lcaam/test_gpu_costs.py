"""What `auto` takes on a GPU: the fastest of what was measured there, and never a kernel that was not."""

import pytest
import torch

from lcaam import Fusion, Mask, explain
from lcaam.choice import Choice
from lcaam.gpu_costs import fastest
from tests.lcaam.fused import FUSED, leaves

ROWS = [
    {"length": 834, "pairs": 2**26, "fusion": "mul", "gradients": True, "seconds": {"reference": 9.0, "triton": 2.0}},
    {"length": 50, "pairs": 2**16, "fusion": "mul", "gradients": True, "seconds": {"reference": 1.0, "triton": 2.0}},
    {"length": 834, "pairs": 2**26, "fusion": "mul", "gradients": False, "seconds": {"chunked": 1.0, "triton": 2.0}},
    {"length": 834, "pairs": 2**26, "fusion": "add", "gradients": True, "seconds": {"sdpa": 1.0, "triton": 2.0}},
]


@pytest.mark.parametrize(
    "able, length, fusion, learns, best",
    [
        (["reference", "triton"], 800, "mul", True, "triton"),
        (["reference"], 800, "mul", True, "reference"),
        (["reference", "triton"], 60, "temper", True, "reference"),
        (["chunked", "triton"], 800, "mul", False, "chunked"),
        (["sdpa", "triton"], 20, "gate", True, "sdpa"),
    ],
)
def test_of_measured_backends_the_fastest_that_is_able_is_taken(able, length, fusion, learns, best):
    backend, reason = fastest(ROWS, able, length, 100 * length**2, Fusion.parse(fusion), learns)
    assert backend == best and "the nearest size that was measured" in reason


def test_a_gpu_that_was_not_measured_never_gets_the_kernels():
    q, k, v, left, right, bias = (torch.empty_like(t, device="meta") for t in leaves())
    for fusion in FUSED:
        choice = explain(q, k, v, Mask(left, right, bias), fusion=fusion)
        assert isinstance(choice, Choice) and choice.backend != "triton"
