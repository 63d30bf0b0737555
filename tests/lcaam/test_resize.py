"""Masks and checkpoints that move from one number of keys to another."""

import copy

import pytest
import torch
import torch.nn.functional as F

from lcaam import ContextAwareMask, Encoder, Fusion, LayerMasks, StaticMask
from lcaam.resize import resized_state
from tests.lcaam.names import FUSIONS, SCOPES

COUNTS = [1, 5, 9, 14]


def net(num_keys=9, **options):
    torch.manual_seed(0)
    return ContextAwareMask(6, num_keys, **{"init": "kaiming", "hidden": 7, **options})


def tokens(rows=4):
    return torch.randn(2, rows, 6)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("options", [{}, {"groups": 3}, {"groups": 2, "rank": 2}], ids=str)
def test_the_first_columns_stay_and_further_ones_are_neutral(options, fusion, count):
    old, x = net(fusion=fusion, **options), tokens()
    torch.nn.init.normal_(old.last.bias)
    before = copy.deepcopy(old.state_dict())
    new = old.resized(count)
    found, values = new(x).dense(), old(x).dense()
    same = min(count, 9)
    torch.testing.assert_close(found[..., :same], values[..., :same], rtol=0, atol=1e-6)
    assert found.shape[-1] == count and (found[..., 9:] == Fusion.parse(fusion).neutral).all()
    assert all(torch.equal(tensor, before[name]) for name, tensor in old.state_dict().items())
    found.sum().backward()
    assert old.last.weight.grad is None and all(parameter.grad is not None for parameter in new.parameters())


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("groups", [1, 3])
def test_interpolated_columns_are_torch_s_and_those_of_length_interpolate(groups, count):
    old, x = net(groups=groups), tokens(count)
    new = old.resized(count, how="interpolate")
    expected = F.interpolate(old(x).dense().flatten(0, 1), size=count, mode="linear", align_corners=False)
    torch.testing.assert_close(new(x).dense().flatten(0, 1), expected, rtol=0, atol=1e-5)
    stretched = net(groups=groups, length="interpolate")
    torch.testing.assert_close(new(x).dense(), stretched(x).dense(), rtol=0, atol=1e-6)
    again = stretched.resized(count, how="interpolate")
    assert again.length == "interpolate"
    torch.testing.assert_close(again(x).dense(), stretched(x).dense(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("grid", [(5, 5), (4, 6), (1, 2)])
def test_a_grid_is_resized_and_its_prefix_is_not(grid):
    old, count = net(11, length="interpolate", grid=(3, 3), prefix=2), 2 + grid[0] * grid[1]
    x = tokens(count)
    new = old.resized(count, "interpolate", grid)
    assert new.grid == grid
    torch.testing.assert_close(new(x).dense(), old(x, grid=grid).dense(), rtol=0, atol=1e-6)
    assert old.resized(18, "interpolate").grid == (4, 4)
    state = resized_state(new, old.state_dict(), "interpolate", grid=(3, 3))
    torch.testing.assert_close(state["last.weight"], new.last.weight.detach())
    with pytest.raises(ValueError, match=r"20 positions are not the grid \(3, 3\).*give grid="):
        old.resized(22, "interpolate")
    with pytest.raises(ValueError, match="of a 2-D grid of keys is resized with how='interpolate'"):
        old.resized(count, "first", grid)
    with pytest.raises(ValueError, match=r"22 keys with 2 prefix tokens are not a grid of \(4, 4\)"):
        old.resized(22, "interpolate", (4, 4))
    with pytest.raises(
        ValueError, match=r"9 positions behind the prefix, whose columns are to be resized, are not a grid of \(2, 4"
    ):
        resized_state(new, old.state_dict(), "interpolate", grid=(2, 4))


def test_a_resized_module_starts_again_as_its_init_says_and_keeps_what_is_frozen():
    old = net(init="identity").double().requires_grad_(False)
    new = old.resized(14)
    assert new.last.weight.dtype == torch.float64 and not any(p.requires_grad for p in new.parameters())
    torch.nn.init.normal_(new.last.weight)
    hidden = old.hidden[0].weight.clone()
    new.reset_parameters()
    assert torch.equal(old.hidden[0].weight, hidden) and not torch.equal(new.hidden[0].weight, hidden)
    assert torch.equal(new(tokens().double()).dense(), torch.ones(2, 1, 4, 14, dtype=torch.float64))
    assert new.last.out_features == 14


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("how", ["first", "interpolate"])
@pytest.mark.parametrize("more", [5, 14])
def test_a_checkpoint_for_n_keys_loads_into_a_model_for_m(more, how, scope):
    def model(num_keys):
        masks = LayerMasks(scope, 2, dim=6, num_keys=num_keys, init="kaiming", groups=2)
        return Encoder(6, 2, heads=2, masks=masks)

    old, new = model(9), model(more)
    state = old.state_dict()
    with pytest.raises(RuntimeError, match="size mismatch"):
        new.load_state_dict(state)
    new.load_state_dict(resized_state(new, state, how))
    for mine, theirs in zip(new.masks.nets, old.masks.nets, strict=True):
        x = tokens()
        torch.testing.assert_close(mine(x).dense(), theirs.resized(more, how)(x).dense(), rtol=0, atol=1e-6)
    if how == "first" and more > 9:
        x = torch.randn(2, 9, 6)
        torch.testing.assert_close(new(x), old(x), rtol=0, atol=1e-5)


def test_what_needs_no_resizing_is_handed_on():
    model = Encoder(6, 1, 2, masks=LayerMasks("shared", 1, dim=6, length="content", init="kaiming"))
    state = model.state_dict()
    assert all(tensor is state[name] for name, tensor in resized_state(model, state).items())
    static = StaticMask(4, 4)
    assert resized_state(static, static.state_dict()).keys() == {"table"}
    assert resized_state(net(), {"other": torch.zeros(1)}).keys() == {"other"}


REFUSED = {
    "length='content' takes any number of keys": lambda: net(None, length="content").resized(5),
    "num_keys must be at least 1, got 0": lambda: net().resized(0),
    "unknown way to resize 'last'; allowed: first, interpolate": lambda: net().resized(5, "last"),
    "mask for a line of keys was given a grid": lambda: net().resized(6, "interpolate", (2, 3)),
    r"last layer of shape \(9, 7\) is not of 2 groups": lambda: resized_state(net(groups=2), net().state_dict()),
    r"shape \(18, 7\) is not of 2 groups and rank 3": lambda: resized_state(
        net(groups=2, rank=3), net(groups=2).state_dict()
    ),
    r"StaticMask: table of shape \(3, 4\) cannot be resized to \(4, 4\)": lambda: resized_state(
        StaticMask(4, 4), StaticMask(3, 4).state_dict()
    ),
    r"hidden.0.weight of shape \(7, 6\) cannot be resized to \(8, 6\)": lambda: resized_state(
        net(hidden=8, rank=2), net(rank=2).state_dict()
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_resized(message):
    with pytest.raises(ValueError, match=message):
        REFUSED[message]()
