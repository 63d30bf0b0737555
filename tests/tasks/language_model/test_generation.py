"""Written text: the same with and without a cache, the same for a seed, and from the window that was promised."""

import pytest
import torch

from configs.errors import ConfigError
from lcaam import Memory
from tasks.language_model.generation import chosen, generate
from tests.tasks.language_model.small import CHARACTERS, CONTEXT, MASKS, model
from tests.tiers import slow

RARE = ("extra linear", "extra layers", "temperature", "offsets", "span")
CACHED = [slow(name) if name in RARE else name for name in MASKS if name not in ("interpolate", "static")]


@pytest.fixture(autouse=True)
def _double():
    """So that rounding never decides which character is drawn."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def prompt(batch: int = 2, length: int = 3) -> torch.Tensor:
    return torch.randint(len(CHARACTERS), (batch, length), generator=torch.Generator().manual_seed(5))


def loud(mask: str, **changes):
    """Weights large enough for the text to depend on them."""
    made = model(mask, **changes)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if ".masks." not in name and weight.dim() > 1:
                weight.mul_(20)
    return made


@pytest.mark.parametrize("mask", CACHED)
def test_with_and_without_a_cache_the_text_is_the_same(mask: str) -> None:
    """Greedy, and drawn with windows that forget three characters at once; beyond the context both."""
    made = loud(mask)
    for temperature, stride in ((0, 1), (0.8, 3)):
        texts = [
            generate(made, prompt(), 9, temperature=temperature, stride=stride, cache=cache,
                     generator=torch.Generator().manual_seed(1))
            for cache in (True, False)
        ]  # fmt: skip
        assert texts[0].shape == (2, 9) and torch.equal(*texts)


PAIRS = [("rotary", "none"), ("alibi", "entmax15"), slow("sinusoidal", "none"), slow("none", "entmax15")]


@pytest.mark.parametrize(("positions", "relative"), PAIRS)
def test_so_it_is_with_all_positions_and_relatives(positions: str, relative: str) -> None:
    made, options = loud("content", positions=positions, relative=relative), {"temperature": 0}
    texts = [generate(made, prompt(), 14, cache=cache, context=9, **options) for cache in (True, False)]
    assert torch.equal(*texts)


def test_contextual_positions_grow_too() -> None:
    made = loud("fixed", relative="cope")
    for layer in made.encoder.layers:
        torch.nn.init.normal_(layer.attention.positions)
    assert torch.equal(*(generate(made, prompt(), 14, temperature=0, cache=cache) for cache in (True, False)))


@pytest.mark.parametrize("mask", ["fixed", "interpolate"])
def test_each_character_comes_from_the_last_ones_of_the_context(mask: str) -> None:
    """The greedy text by hand: the window is moved on by one, and read as in training, with all its columns."""
    made, ids = loud(mask), prompt(1)
    for _ in range(12):
        window = ids[:, -CONTEXT:]
        filled = torch.cat([window, window.new_zeros(1, CONTEXT - window.shape[1])], 1)
        ids = torch.cat([ids, made(filled)[:, window.shape[1] - 1].argmax(-1, keepdim=True)], 1)
    assert torch.equal(generate(made, prompt(1), 12, temperature=0), ids[:, 3:])


def test_a_larger_stride_forgets_more_at_once(monkeypatch) -> None:
    made, read = loud("none"), []
    forward = type(made).forward

    def noting(self, ids, memory: Memory | None = None):
        read.append(ids.shape[1])
        return forward(self, ids, memory)

    monkeypatch.setattr(type(made), "forward", noting)
    generate(made, prompt(1, 20), 10, stride=4, cache=False)
    assert read == [6, 3, 4, 5, 6, 3, 4, 5, 6, 3]
    read.clear()
    generate(made, prompt(1, 20), 10, stride=4, cache=True)
    assert read == [6, 3, 1, 1, 1, 3, 1, 1, 1, 3]


def test_a_temperature_near_0_takes_the_most_probable_character() -> None:
    made = loud("none")
    best = generate(made, prompt(), 12, temperature=0)
    for temperature in (1e-9, 1e-40, 5e-324):
        assert torch.equal(generate(made, prompt(), 12, temperature=temperature), best)


def test_the_seed_decides_and_temperature_and_top_narrow_the_choice() -> None:
    made = loud("none")
    first, second, third = (
        generate(made, prompt(), 20, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, second) and not torch.equal(first, third)
    logits = torch.tensor([[0.0, 3.0, 2.0, 1.0]])
    drawn = [chosen(logits, 1.0, 2, torch.Generator().manual_seed(seed)).item() for seed in range(100)]
    assert set(drawn) == {1, 2}
    assert drawn.count(1) / 100 == pytest.approx(1 / (1 + 2.718281828**-1), abs=0.12)
    assert chosen(logits, 0, None, None).item() == 1
    assert chosen(logits, 1.0, 1, None).item() == 1


@pytest.mark.parametrize(
    ("mask", "options", "message"),
    [
        ("none", {"count": 0}, "count must be at least 1, got 0"),
        ("none", {"temperature": -1.0}, "temperature is a finite number, at least 0, got -1.0"),
        ("none", {"temperature": float("nan")}, "temperature is a finite number"),
        ("none", {"top": 0}, "top must be at least 1, got 0"),
        ("none", {"stride": 7}, "stride is from 1 to the context of 6, got 7"),
        ("interpolate", {"cache": True}, "these masks cannot grow with the text"),
        ("static", {"cache": True}, "these masks cannot grow with the text"),
    ],
)
def test_numbers_out_of_range_are_told(mask: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate(model(mask), prompt(), **{"count": 3, **options})
    with pytest.raises(ValueError, match="the text to go on with is empty"):
        generate(model(mask), prompt(1, 0), 3)


def test_a_context_that_cannot_be_read_is_told_before_anything_is_written() -> None:
    with pytest.raises(ConfigError, match="a context of 7 characters: learned positions end at the 6"):
        generate(model(), prompt(1, 1), 1, context=7)


def test_masks_that_cannot_grow_write_without_a_cache() -> None:
    for mask in ("interpolate", "static"):
        assert generate(model(mask), prompt(), 9).shape == (2, 9)
