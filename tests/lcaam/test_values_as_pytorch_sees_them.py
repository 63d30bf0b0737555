"""Mask in PyTorch's own tools: pytree, export, checkpointing, safe loading."""

import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree
from torch.utils.checkpoint import checkpoint

from lcaam import ContextAwareMask, Encoder, Fusion, LayerMasks, Mask, attention

BOTH = pytest.mark.parametrize("with_bias", [True, False])


def example(with_bias=True, fusion="add"):
    bias = torch.randn(1, 1, 1, 6) if with_bias else None
    return Mask(torch.randn(2, 1, 5, 3), torch.randn(1, 1, 6, 3), bias, fusion=Fusion.parse(fusion))


def assert_same(one: Mask, other: Mask) -> None:
    assert (one.whole, one.fusion, one.bias is None) == (other.whole, other.fusion, other.bias is None)
    for ours, theirs in zip(one.tensors(), other.tensors(), strict=True):
        assert torch.equal(ours, theirs)


@BOTH
def test_its_tensors_are_the_leaves_of_a_tree(with_bias):
    mask = example(with_bias)
    leaves, spec = pytree.tree_flatten({"mask": mask})
    assert [id(leaf) for leaf in leaves] == [id(tensor) for tensor in mask.tensors()]
    assert_same(pytree.tree_unflatten(leaves, spec)["mask"], mask)
    assert_same(pytree.tree_map(lambda tensor: tensor + 1, mask), mask.map(lambda tensor: tensor + 1))
    paths, _ = pytree.tree_flatten_with_path(mask)
    assert [str(path[0]) for path, _ in paths] == [".left", ".right", ".bias"][: len(leaves)]
    restored = pytree.treespec_loads(pytree.treespec_dumps(spec))
    assert_same(pytree.tree_unflatten(leaves, restored)["mask"], mask)


@BOTH
def test_it_is_loaded_without_running_code(with_bias, tmp_path):
    mask = example(with_bias)
    torch.save(mask, tmp_path / "mask.pt")
    assert_same(torch.load(tmp_path / "mask.pt", weights_only=True), mask)


def test_it_moves_and_says_what_it_is():
    mask = example()
    assert mask.shape == mask.dense().shape == (2, 1, 5, 6)
    assert (mask.dtype, mask.device) == (torch.float32, torch.device("cpu"))
    assert mask.to(torch.float64).dense().dtype == torch.float64
    assert mask.to("meta").device.type == "meta"
    grown = Mask(mask.left.requires_grad_(), mask.right).detach()
    assert not grown.left.requires_grad


class Attend(nn.Module):
    def forward(self, q, mask):
        return attention(q, q, q, mask)


def test_a_module_that_takes_a_mask_is_exported():
    q, mask = torch.randn(2, 4, 6, 8), Mask(torch.randn(2, 1, 6, 3), torch.randn(1, 1, 6, 3), fusion=Fusion.add)
    exported = torch.export.export(Attend(), (q, mask))
    torch.testing.assert_close(exported.module()(q, mask), attention(q, q, q, mask))


@pytest.mark.parametrize("length", ["fixed", "content"])
@pytest.mark.parametrize("scope", ["shared", "per_layer"])
def test_an_exported_encoder_takes_every_length_up_to_its_own(scope, length):
    masks = LayerMasks(scope, 2, dim=16, num_keys=30, length=length, init="kaiming")
    encoder = Encoder(16, 2, 4, masks=masks).eval()
    lengths = {"x": {1: torch.export.Dim("N", max=30)}}
    exported = torch.export.export(encoder, (torch.randn(2, 20, 16),), dynamic_shapes=lengths).module()
    for n in (2, 7, 29, 30):
        x = torch.randn(2, n, 16)
        torch.testing.assert_close(exported(x), encoder(x))


def test_interpolated_masks_are_exported_with_any_length():
    masks = LayerMasks("shared", 1, dim=16, num_keys=30, length="interpolate", init="kaiming")
    encoder = Encoder(16, 1, 4, masks=masks).eval()
    lengths = {"x": {1: torch.export.Dim("N", min=3, max=60)}}
    exported = torch.export.export(encoder, (torch.randn(2, 20, 16),), dynamic_shapes=lengths).module()
    for n in (7, 30, 60):
        x = torch.randn(2, n, 16)
        torch.testing.assert_close(exported(x), encoder(x))


# -- checkpointing -----------------------------------------------------------------------------------------------------


def setting():
    torch.manual_seed(0)
    net, x = ContextAwareMask(16, 9, init="kaiming"), torch.randn(2, 9, 16, requires_grad=True)
    return net, x, torch.randn(2, 4, 9, 4, requires_grad=True)


@pytest.mark.parametrize("around", [lambda net: net, lambda net: lambda x: net(x)], ids=["module", "function"])
def test_a_mask_out_of_a_reentrant_checkpoint_is_refused_and_out_of_the_other_right(around):
    net, x, q = setting()
    with pytest.raises(ValueError, match=r"no gradient: .*use_reentrant=False"):
        attention(q, q, q, checkpoint(around(net), x, use_reentrant=True))
    attention(q, q, q, checkpoint(around(net), x, use_reentrant=False)).sum().backward()
    found = [p.grad for p in net.parameters()]
    net.zero_grad()
    attention(q, q, q, net(x)).sum().backward()
    for grad, p in zip(found, net.parameters(), strict=True):
        assert torch.equal(grad, p.grad) and grad.any()


def test_a_mask_that_is_used_where_it_is_made_is_right_in_both_checkpoints():
    net, x, q = setting()
    grads = []
    for reentrant in (True, False):
        net.zero_grad()
        checkpoint(lambda q, x: attention(q, q, q, net(x)), q, x, use_reentrant=reentrant).sum().backward()
        grads.append([p.grad.clone() for p in net.parameters()])
    assert all(torch.equal(*pair) for pair in zip(*grads, strict=True))


def test_a_mask_from_outside_of_a_reentrant_checkpoint_is_refused_unless_its_tensors_are_arguments():
    net, x, q = setting()
    mask = net(x)
    with pytest.raises(ValueError, match="made outside of the re-entrantly checkpointed function"):
        checkpoint(lambda q: attention(q, q, q, mask), q, use_reentrant=True)
    with torch.no_grad():  # nothing is checkpointed here
        attention(q, q, q, mask)

    def of_tensors(q, *tensors):
        return attention(q, q, q, Mask(*tensors))

    checkpoint(of_tensors, q, *mask.tensors(), use_reentrant=True).sum().backward()
    assert all(p.grad is not None for p in net.parameters())


# -- tools that replace or watch linear layers -------------------------------------------------------------------------


@pytest.mark.parametrize("length", ["fixed", "interpolate", "content"])
def test_hooks_of_the_last_layer_fire_and_parametrisations_are_used(length):
    net, hits = ContextAwareMask(16, 9, length=length, init="kaiming"), []
    net.last.register_forward_hook(lambda *_: hits.append(1))
    x = torch.randn(2, 9, 16)
    before = net(x).dense()
    assert len(hits) == 1
    nn.utils.parametrize.register_parametrization(net.last, "weight", nn.Identity())
    torch.testing.assert_close(net(x).dense(), before)
    assert set(dict(ContextAwareMask(16, 9, length=length).named_parameters())) >= {"last.weight", "last.bias"}


@pytest.mark.filterwarnings("ignore")
def test_dynamic_quantisation_leaves_the_last_layer_alone():
    net = ContextAwareMask(16, 9, init="kaiming")
    small = torch.ao.quantization.quantize_dynamic(net, {nn.Linear}, dtype=torch.qint8)
    x = torch.randn(2, 9, 16)
    torch.testing.assert_close(small(x).dense(), net(x).dense(), rtol=0, atol=0.5)
    assert not torch.equal(small(x).dense(), net(x).dense())


def test_lora_on_the_last_layer_is_refused_and_on_the_others_trains():
    peft = pytest.importorskip("peft", reason="the extra lora")
    encoder = Encoder(16, 2, 4, masks=LayerMasks("per_layer", 2, dim=16, num_keys=9, init="kaiming"))
    with pytest.raises(ValueError, match="LastLayer"):
        peft.get_peft_model(encoder, peft.LoraConfig(target_modules=["last"]))
    lora = peft.get_peft_model(encoder, peft.LoraConfig(target_modules=["query", "hidden.0"], init_lora_weights=False))
    lora(torch.randn(2, 9, 16)).square().sum().backward()
    assert all(p.grad is not None for p in lora.parameters() if p.requires_grad)
