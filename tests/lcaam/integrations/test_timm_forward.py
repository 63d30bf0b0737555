"""A grafted ViT in all the ways in which one is used: image sizes, checkpointing, compile, copies, threads."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import timm
import torch
from timm.layers import set_reentrant_ckpt
from timm.models.vision_transformer import VisionTransformer
from torch.nn.functional import interpolate

from lcaam.integrations.timm import graft, ungraft
from tests.lcaam.integrations.small_vit import images, model, random_masks, small_vit, written_out
from tests.lcaam.names import FUSIONS, SCOPES
from tests.tiers import slow


def grafted(scope="shared", fusion="mul", of_vit=None, **options):
    vit = graft(small_vit(**of_vit or {}), scope, fusion, **options)
    random_masks(vit)
    return vit


def gradients(vit, x):
    """Logits, and gradients of all parameters by name."""
    vit.zero_grad()
    out = vit(x)
    out.square().sum().backward()
    return out.detach(), {name: p.grad.clone() for name, p in vit.named_parameters()}


# -- image sizes ------------------------------------------------------------------------------------------------------

PREFIXES = [dict(), dict(reg_tokens=2, no_embed_class=True), dict(class_token=False, global_pool="avg")]


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("of_vit", PREFIXES, ids=["class", "registers", "none"])
@pytest.mark.parametrize("length", ["interpolate", "content"])
def test_other_image_sizes(length, of_vit, scope):
    vit = grafted(scope, length=length, of_vit=of_vit | {"dynamic_img_size": True})
    for height, width in ((12, 20), (16, 12), (20, 12), (4, 4)):
        x, grid = images(2, height, width), (height // 4, width // 4)
        expected = written_out(vit, x, scope, "mul", **({"grid": grid} if length == "interpolate" else {}))
        torch.testing.assert_close(vit(x), expected, rtol=0, atol=2e-5)
    random = {name: p.clone() for name, p in vit.state_dict().items()}
    fixed_size = graft(small_vit(**of_vit), scope, length=length)
    fixed_size.load_state_dict(random)
    fixed_size.set_input_size((16, 12))
    of_mask = {"grid": (4, 3)} if length == "interpolate" else {}
    x = images(2, 16, 12)
    torch.testing.assert_close(fixed_size(x), written_out(fixed_size, x, scope, "mul", **of_mask), rtol=0, atol=2e-5)


def test_interpolated_columns_lie_on_the_grid_of_patches():
    vit = grafted(length="interpolate", fusion="add", of_vit={"dynamic_img_size": True, "reg_tokens": 1})
    right = vit.lcaam.masks.nets[0](torch.randn(1, 2 + 24, 12), grid=(6, 4)).right[0, 0]  # (N_k, R)
    old = vit.lcaam.masks.nets[0].last.weight  # (2 + 15, R)
    image = old[2:].T.view(1, -1, 3, 5)
    expected = interpolate(image, (6, 4), mode="bilinear").flatten(2)[0].T
    torch.testing.assert_close(right, torch.cat([old[:2], expected]))


def test_padded_patches_count():
    vit = grafted(length="interpolate", of_vit={"dynamic_img_size": True, "dynamic_img_pad": True})
    x = images(2, 13, 18)  # 4 x 5 patches
    torch.testing.assert_close(vit(x), written_out(vit, x, "shared", "mul", grid=(4, 5)), rtol=0, atol=2e-5)


@pytest.mark.parametrize("height, width, grid", [(16, 20, "(4, 5)"), (8, 12, "(2, 3)"), (20, 12, "(5, 3)")])
@pytest.mark.parametrize("kind, fusion", [("context", "mul"), ("static", "add")])
def test_a_fixed_mask_at_another_size_says_what_to_do(kind, fusion, height, width, grid):
    vit = graft(small_vit(dynamic_img_size=True), "per_layer", fusion, kind=kind)
    vit(images())
    with pytest.raises(ValueError) as error:
        vit(images(1, height, width))
    for words in ("a grid of (3, 5) patches", f"have {grid}", "length='interpolate'", "'content'", "graft again"):
        assert words in str(error.value)
    ungraft(vit).set_input_size((height, width))
    graft(vit, "per_layer", fusion, kind=kind)(images(1, height, width))


def test_a_model_without_a_size_takes_content_only():
    vit = small_vit()
    vit.patch_embed.grid_size = None
    with pytest.raises(ValueError, match="built without img_size"):
        graft(vit)
    graft(vit, length="content")(images())


# -- timm's other ways through the model ------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", SCOPES)
def test_every_way_through_the_model_has_the_masks(scope):
    vit, x = grafted(scope), images()
    features = vit.forward_features(x)
    final, layers = vit.forward_intermediates(x, output_fmt="NLC")
    assert torch.equal(final, features) and len(layers) == 3
    (last,) = vit.get_intermediate_layers(x, 1, norm=True)
    assert torch.equal(last, features[:, 1:])
    (first,) = vit.forward_intermediates(x, indices=[0], stop_early=True, intermediates_only=True, output_fmt="NLC")
    assert torch.equal(first, layers[0])
    (image,) = vit.forward_intermediates(x, indices=[-1], intermediates_only=True)
    assert image.shape == (2, 12, 3, 5)
    assert (ungraft(vit).forward_features(x) - features).abs().max() > 1e-3


def test_extra_layers_count_as_layers():
    vit = graft(small_vit(), "per_layer", depth=9, control="extra_layers", init="default")
    final, layers = vit.forward_intermediates(images(), norm=True, output_fmt="NLC", return_prefix_tokens=True)
    assert len(layers) == 3 + len(vit.lcaam.extra_layers)
    assert torch.equal(torch.cat(layers[-1][::-1], 1), final)


@pytest.mark.parametrize("scope", SCOPES)
def test_pruned_layers(scope):
    vit, x = grafted(scope), images()
    _, expected = vit.forward_intermediates(x)
    vit.prune_intermediate_layers([1])
    _, (only,) = vit.forward_intermediates(x, indices=[1])
    assert len(vit.blocks) == 2 and torch.equal(only, expected[1])
    assert type(ungraft(vit)) is VisionTransformer


def test_features_only_models_can_be_grafted():
    getter = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, depth=2, features_only=True, out_indices=[0, 1]
    ).eval()
    expected = getter(images(1, 32, 32))
    graft(getter.model, "per_layer", "mul")
    for found, wanted in zip(getter(images(1, 32, 32)), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
    random_masks(getter.model)
    assert not torch.equal(getter(images(1, 32, 32))[1], expected[1])


def test_structural_masks_of_timm_still_win():
    plain = small_vit()
    vit, x = graft(small_vit(), "shared", "mul"), images()
    seen = torch.ones(16, 16, dtype=torch.bool)
    seen[:, -4:] = False
    for keep in (seen, seen[None].expand(2, 1, 16, 16), seen.expand(3, 16, 16)):
        torch.testing.assert_close(vit(x, attn_mask=keep), plain(x, attn_mask=keep), rtol=0, atol=1e-5)
    torch.testing.assert_close(vit(x, is_causal=True), plain(x, is_causal=True), rtol=0, atol=1e-5)
    random_masks(vit)
    changed = x.clone()
    changed[:, :, 8:, 4:] += 1  # pixels of the last four tokens
    out, other = (vit.forward_features(i, attn_mask=seen)[:, :-4] for i in (x, changed))
    assert torch.equal(out, other)
    with pytest.raises(ValueError, match=r"must be bool \(True = attend\), got torch.float32"):
        vit(x, attn_mask=torch.zeros(16, 16))


# -- training at scale ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("scope", SCOPES)
def test_gradient_checkpointing_changes_no_gradient(scope, fusion):
    vit = grafted(scope, fusion, of_vit=dict(attn_drop_rate=0.2, drop_path_rate=0.2)).train()
    torch.manual_seed(4)
    expected, expected_grads = gradients(vit, images())
    vit.set_grad_checkpointing()
    torch.manual_seed(4)
    out, grads = gradients(vit, images())
    assert torch.equal(out, expected)
    for name, grad in grads.items():
        assert grad.any() or not expected_grads[name].any(), name
        torch.testing.assert_close(grad, expected_grads[name], msg=name)


@pytest.mark.parametrize("scope", SCOPES)
def test_two_checkpointed_forwards_before_their_backwards_do_not_mix(scope):
    vit = grafted(scope).train()
    one, two = images(2, seed=1), images(3, seed=2)
    expected = [gradients(vit, x)[1] for x in (one, two)]
    vit.set_grad_checkpointing()
    vit.zero_grad()
    losses = [vit(x).square().sum() for x in (one, two)]
    for loss in losses:  # the first forward's blocks are computed again after the second forward
        loss.backward()
    for name, parameter in vit.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[0][name] + expected[1][name], rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_reentrant_checkpointing_is_exact_or_refused():
    set_reentrant_ckpt(True)
    try:
        for scope in ("tied", "per_layer"):
            vit = grafted(scope).train()
            _, expected = gradients(vit, images())
            vit.set_grad_checkpointing()
            for name, grad in gradients(vit, images())[1].items():
                torch.testing.assert_close(grad, expected[name], msg=name)
        vit = grafted("shared").train()
        vit.set_grad_checkpointing()
        with pytest.raises(ValueError, match=r"set_reentrant_ckpt\(False\)"):
            vit(images())
        with torch.no_grad():
            vit(images())
    finally:
        set_reentrant_ckpt(False)


@pytest.mark.parametrize(
    "scope, fusion, backend, checkpointing",
    [
        ("shared", "mul", "eager", True),
        slow("shared", "temper", "aot_eager", False),
        ("per_layer", "add", "eager", False),
    ],
)
def test_it_compiles_in_one_graph(scope, fusion, backend, checkpointing):
    vit = grafted(scope, fusion, of_vit={"depth": 2}).train()
    vit.set_grad_checkpointing(checkpointing)
    expected, expected_grads = gradients(vit, images())
    torch._dynamo.reset()
    compiled = torch.compile(vit, backend=backend, fullgraph=True)
    vit.zero_grad()
    out = compiled(images())
    out.square().sum().backward()
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)
    for name, parameter in vit.named_parameters():
        torch.testing.assert_close(parameter.grad, expected_grads[name], rtol=1e-4, atol=1e-4, msg=name)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_autocast_trains(scope, fusion):
    vit = grafted(scope, fusion, of_vit=dict(qk_norm=True)).train()
    expected, _ = gradients(vit, images())
    with torch.autocast("cpu", torch.bfloat16):
        out = vit(images())
    torch.testing.assert_close(out.float(), expected, rtol=0, atol=0.1 * expected.abs().max().item())
    out.float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in vit.parameters())


# -- copies, and what is left behind ----------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [copy.deepcopy, lambda vit: pickle.loads(pickle.dumps(vit))], ids=["copy", "pickle"])
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"])
def test_a_copy_is_a_model_of_its_own(name, make):
    vit = graft(model(name, img_size=32, depth=2), "per_layer", hidden=5)
    random_masks(vit)
    x = images(1, 32, 32)
    expected = vit(x)
    other = make(vit)
    assert type(other) is type(vit) and torch.equal(other(x), expected)
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter.zero_()
    assert torch.equal(other(x), expected)
    assert type(ungraft(other)) is type(model(name, img_size=32, depth=1))


def test_a_saved_model_loads(tmp_path):
    vit = grafted()
    torch.save(vit, tmp_path / "vit.pt")
    torch.testing.assert_close(torch.load(tmp_path / "vit.pt", weights_only=False)(images()), vit(images()))


@pytest.mark.parametrize("scope", SCOPES)
def test_a_failed_forward_leaves_nothing(scope):
    vit, x = grafted(scope), images(seed=7)
    expected, state = vit(x), {name: sorted(module.__dict__) for name, module in vit.named_modules()}

    def fail(*_):
        raise RuntimeError("out of memory")

    handle = vit.blocks[1].mlp.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        vit(images(seed=8))
    handle.remove()
    assert torch.equal(vit(x), expected)
    assert {name: sorted(module.__dict__) for name, module in vit.named_modules()} == state


def test_a_forward_frees_its_shared_mask_without_the_garbage_collector():
    import gc
    import weakref

    vit, held = grafted(), []
    vit.lcaam.masks.register_forward_hook(lambda module, args, mask: held.append(weakref.ref(mask)) if mask else None)
    gc.disable()
    try:
        vit(images())
        assert held and all(mask() is None for mask in held)
    finally:
        gc.enable()


def test_threads_do_not_share_a_mask():
    vit = grafted("shared")
    batches = [images(1 + number % 3, seed=number) for number in range(12)]
    with torch.no_grad():
        expected = [vit(x) for x in batches]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(torch.no_grad()(vit), batches * 3))
    for out, wanted in zip(found, expected * 3, strict=True):
        assert torch.equal(out, wanted)


def test_the_printed_model_says_what_was_grafted():
    assert "scope=per_layer, fusion=temper, length=content, backend=auto" in repr(
        grafted("per_layer", "temper", length="content")
    )
