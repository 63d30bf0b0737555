"""The model: causal with every mask, equal to a plain one written from its description, as long as it can read."""

import pytest
import torch
import torch.nn.functional as F

from configs.errors import ConfigError
from lcaam.controls import count
from scripts.studies.character_model import PlainModel, Sizes, optimiser_of, rate_at, step_of
from tasks.common.optimisation import adamw
from tasks.language_model.model import CharacterModel
from tests.tasks.language_model.small import CHARACTERS, CONTEXT, MASKS, SIZES, mask_node, model

POSITIONS = ("learned", "sinusoidal", "rotary", "alibi", "none")


def ids_of(batch: int = 3, length: int = CONTEXT, seed: int = 1) -> torch.Tensor:
    return torch.randint(len(CHARACTERS), (batch, length), generator=torch.Generator().manual_seed(seed))


def as_plain(ours: CharacterModel, sizes: Sizes) -> PlainModel:
    """The plain model with the same weights."""
    theirs = PlainModel(len(CHARACTERS), sizes)
    names = {"norm_1": "attention_norm", "norm_2": "feedforward_norm", "out": "attention.out"}
    names |= {"up": "expand", "down": "contract"}
    state, found = ours.state_dict(), {}
    for name in theirs.state_dict():
        if name.startswith("blocks."):
            _, number, part, kind = name.split(".")
            layer = f"encoder.layers.{number}"
            if part == "qkv":
                parts = [state[f"{layer}.attention.{one}.{kind}"] for one in ("query", "key", "value")]
                found[name] = torch.cat(parts)
            else:
                found[name] = state[f"{layer}.{names[part]}.{kind}"]
    found |= {"characters.weight": state["embedding.weight"], "places.weight": state["places"]}
    found["norm.weight"] = state["encoder.norm.weight"]
    theirs.load_state_dict(found)
    return theirs


def test_it_is_the_plain_model_in_logits_and_in_its_first_steps() -> None:
    """Same weights, same windows: after each of five steps, of which two are of the warm-up, logits are equal."""
    sizes = Sizes(context=CONTEXT, width=12, layers=2, heads=3, steps=10, warmup=2)
    torch.manual_seed(0)
    ours = CharacterModel(len(CHARACTERS), CONTEXT, width=12, layers=2, heads=3)
    theirs = as_plain(ours, sizes)
    assert count(ours) == count(theirs) == 12 * (8 + CONTEXT) + 2 * (12 * 12**2 + 2 * 12) + 12
    torch.testing.assert_close(ours(ids_of()), theirs(ids_of()), rtol=1e-5, atol=1e-6)

    recipe = dict(lr=sizes.rate, weight_decay=0.1, betas=(0.9, 0.99), warmup=0.2, steps=10, final=0.1)
    found, optimiser = adamw(ours, fused=True, **recipe), optimiser_of(theirs, sizes)
    for step in range(5):
        windows = ids_of(length=CONTEXT + 1, seed=step)
        rates = [group["lr"] for group in found["optimizer"].param_groups]
        assert rates == pytest.approx([rate_at(step, sizes)] * 2)
        loss = F.cross_entropy(ours(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())
        found["optimizer"].zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(ours.parameters(), 1.0)
        found["optimizer"].step()
        found["lr_scheduler"]["scheduler"].step()
        assert step_of(theirs, optimiser, windows, rate_at(step, sizes)) == pytest.approx(loss.item(), abs=1e-6)
        torch.testing.assert_close(ours(ids_of()), theirs(ids_of()), rtol=1e-5, atol=1e-5)


EVERY = [(mask, "learned") for mask in MASKS] + [("fixed", "alibi"), ("content", "rotary")]


@pytest.mark.parametrize(("mask", "positions"), EVERY)
def test_no_logit_depends_on_a_later_character(mask: str, positions: str) -> None:
    made, ids = model(mask, positions=positions), ids_of()
    changed = ids.clone()
    changed[:, 4:] = (changed[:, 4:] + 3) % len(CHARACTERS)
    with torch.no_grad():
        first, second = made(ids), made(changed)
    assert torch.equal(first[:, :4], second[:, :4]) and not torch.allclose(first[:, 4:], second[:, 4:])


@pytest.mark.parametrize("mask", [name for name in MASKS if name not in ("none", "extra linear", "extra layers")])
def test_a_mask_changes_what_the_same_weights_say(mask: str) -> None:
    """The backbone's weights are those without a mask, and the mask is not without effect."""
    plain, made = model(), model(mask)
    own = {name: value for name, value in made.state_dict().items() if ".masks." not in name}
    assert own.keys() == plain.state_dict().keys()
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in own.items())
    if mask == "temperature":
        torch.nn.init.constant_(made.encoder.masks.nets[0].change, 0.5)
    with torch.no_grad():
        assert (made(ids_of()) - plain(ids_of())).abs().max() > 1e-6


@pytest.mark.parametrize("relative", ["none", "entmax15", "cope"])
@pytest.mark.parametrize("positions", POSITIONS)
def test_positions_and_relatives_build_with_masks(positions: str, relative: str) -> None:
    if relative == "cope" and positions in ("rotary", "alibi"):
        with pytest.raises(ValueError, match="contextual positions take the place of others"):
            model("fixed", positions=positions, relative=relative)
        return
    made = model("fixed", positions=positions, relative=relative)
    logits = made.train()(ids_of())
    logits.square().mean().backward()
    assert logits.shape == (3, CONTEXT, len(CHARACTERS))
    assert [name for name, weight in made.named_parameters() if weight.grad is None] == []


def test_without_positions_order_counts_only_through_causality() -> None:
    made = model(positions="none", layers=1)
    ids = ids_of()
    swapped = ids[:, [1, 0, 2, 3, 4, 5]]
    with torch.no_grad():
        torch.testing.assert_close(made(ids)[:, 2:], made(swapped)[:, 2:])
        for positions in POSITIONS[:4]:
            other = model(positions=positions, layers=1)
            assert (other(ids)[:, 2:] - other(swapped)[:, 2:]).abs().max() > 1e-6


def test_sinusoids_are_vaswani_s() -> None:
    made = model(positions="sinusoidal", position_scale=2.0)
    waves = made.of_places(3, 2)
    assert waves[1, 4].item() == pytest.approx(2 * torch.tensor(4 / 10_000 ** (4 / 12)).sin().item(), rel=1e-5)
    assert waves[0, 5].item() == pytest.approx(2 * torch.tensor(3 / 10_000 ** (4 / 12)).cos().item(), rel=1e-5)


def test_weights_start_as_gpt_2_s() -> None:
    torch.manual_seed(0)
    made = CharacterModel(65, 64, width=64, layers=2, heads=4, bias=True, tied=False)
    layer = made.encoder.layers[1]
    for weight, std in ((made.embedding.weight, 0.02), (made.places, 0.02), (made.head.weight, 0.02),
                        (layer.attention.key.weight, 0.02), (layer.attention.out.weight, 0.01),
                        (layer.contract.weight, 0.01)):  # fmt: skip
        assert weight.std().item() == pytest.approx(std, rel=0.05)
    assert layer.expand.bias.abs().max() == 0
    assert made.parts()["head"] == 65 * 64 and sum(made.parts().values()) == count(made)


@pytest.mark.parametrize("control", ["extra linear", "extra layers"])
def test_a_control_has_as_many_parameters_without_biases_too(control: str) -> None:
    node = {**MASKS[control], "control": "none"}
    wanted = model(node).parts()["masks"]
    for bias in (False, True):
        assert model(control, bias=bias).parts()["controls"] == pytest.approx(wanted, rel=0.005)


# -- how much it can read ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", MASKS)
def test_a_longer_context_is_read_or_refused_in_one_line(mask: str) -> None:
    made, ids = model(mask, positions="rotary"), ids_of(length=CONTEXT + 5)
    if mask in ("none", "content", "interpolate", "temperature", "extra linear", "extra layers"):
        with torch.no_grad():
            assert made(ids).shape[1] == CONTEXT + 5
        return
    with pytest.raises(ConfigError, match=r"^a context of 11 characters: the mask has 6 columns.*length=content"):
        made(ids)


def test_learned_positions_end_where_training_ended() -> None:
    with pytest.raises(ConfigError, match=r"^a context of 7 characters: learned positions end at the 6 of training"):
        model()(ids_of(length=7))
    wider = model(mask_node("per_layer", num_keys=9), positions="sinusoidal")  # the mask has columns for more
    with torch.no_grad():
        wider(ids_of(length=9))
    with pytest.raises(ConfigError, match="the mask has 9 columns"):
        wider(ids_of(length=10))


def test_blocks_need_modalities() -> None:
    with pytest.raises(ValueError, match="tokens are of one modality"):
        CharacterModel(8, 6, mask=mask_node("per_layer", kind="blocks"), **SIZES)


def test_linear_controls_begin_near_the_plain_model() -> None:
    """torch's own biases are larger than GPT-2's embeddings, and alike for all tokens."""
    mask = mask_node("per_layer", "mul", control="extra_linear", depth=3, hidden=32)
    sizes = {"width": 64, "layers": 3, "heads": 2, "mask": mask}
    torch.manual_seed(0)
    made = CharacterModel(50, CONTEXT, **sizes)
    torch.manual_seed(0)
    plain = CharacterModel(50, CONTEXT, **sizes | {"mask": None})
    for control in made.encoder.controls():
        for layer in control.layers:
            assert not layer.bias.any()
    assert count(made) > count(plain)
    ids = torch.randint(50, (3, CONTEXT))
    torch.testing.assert_close(made(ids), plain(ids), rtol=0, atol=0.02)
    assert plain(ids).std() > 0.1  # the logits themselves are an order of magnitude larger
