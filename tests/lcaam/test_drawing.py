"""Random numbers of masks and controls are apart from those of the rest of a model."""

import pytest
import torch

from lcaam import Encoder
from lcaam.drawing import drawn_apart
from lcaam.plan import additions, mask_options

PLAIN = {"scope": "none", "fusion": "none"}
SETTINGS = [
    {"scope": "shared", "fusion": "mul", "depth": 3},
    {"scope": "per_layer", "fusion": "add", "depth": 1, "init": "default"},
    {"scope": "per_layer", "fusion": "mul", "length": "content"},
    {"scope": "shared", "kind": "static", "fusion": "gate"},
    {"scope": "per_layer", "fusion": "mul", "depth": 3, "control": "extra_linear", "control_residual": True},
    {"scope": "per_layer", "fusion": "mul", "depth": 9, "control": "extra_layers"},
]


def built(settings: dict, seed: int = 0) -> Encoder:
    torch.manual_seed(seed)
    return Encoder(32, 2, heads=2, **mask_options(settings, 2, 32, num_keys=10))


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_an_encoder_has_the_weights_that_it_has_without_masks(settings: dict):
    plain = built(PLAIN)
    after = torch.rand(3)
    encoder = built(settings)

    assert torch.equal(torch.rand(3), after)
    own = {id(parameter) for part in additions(encoder) for parameter in part.parameters()}
    rest = {name: parameter for name, parameter in encoder.named_parameters() if id(parameter) not in own}
    assert own
    assert rest.keys() == dict(plain.named_parameters()).keys()
    assert all(torch.equal(rest[name], parameter) for name, parameter in plain.named_parameters())


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_what_is_added_follows_the_seed(settings: dict):
    first, again, other = (
        [parameter for part in additions(built(settings, seed)) for parameter in part.parameters()]
        for seed in (0, 0, 1)
    )
    assert all(map(torch.equal, first, again))
    assert not all(map(torch.equal, first, other))


def test_blocks_differ_by_purpose_and_by_what_was_drawn_before():
    def draw(purpose: str) -> list[float]:
        with drawn_apart(purpose):
            return torch.rand(3).tolist()

    torch.manual_seed(0)
    first, second, again = draw("a"), draw("b"), draw("a")
    torch.rand(1)
    later = draw("a")

    assert first == again
    assert first != second
    assert first != later
    assert torch.initial_seed() == 0


def test_an_error_inside_leaves_the_generator_as_it_was():
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    with pytest.raises(RuntimeError), drawn_apart("a"):
        torch.rand(5).view(7)
    assert torch.equal(torch.rand(2), expected)
