"""The figures are drawn for every shape that a task has, and refuse what they cannot draw."""

import numpy as np
import pytest

from tasks.common.analysis_figures import first_and_last
from tasks.common.mask_figures import attention_histogram, mask_heat_map


@pytest.mark.parametrize(
    ("shape", "boundaries", "labels"),
    [((50, 50), [25], ["visual", "audio"]), ((75, 32), [], []), ((1, 1), [], []), ((3, 7), [2], ["a", "b"])],
)
@pytest.mark.parametrize("offset", [-3.0, 0.0, 3.0])
def test_a_heat_map_of_any_shape_and_sign(tmp_path, shape, boundaries, labels, offset) -> None:
    mask = np.linspace(-1, 1, shape[0] * shape[1]).reshape(shape) + offset
    figure = mask_heat_map(mask, boundaries, labels, "layer 1")
    figure.savefig(tmp_path / "mask.png")
    assert (tmp_path / "mask.png").stat().st_size > 3000
    axes, bar = figure.axes
    assert axes.get_title() == "layer 1"
    assert bar.get_ylabel().startswith("mask value")
    assert np.array_equal(axes.images[0].get_array(), mask)
    if labels:
        assert [tick.get_text() for tick in axes.get_xticklabels()] == labels


@pytest.mark.parametrize("neutral", [0.0, 1.0, 0.54])
def test_two_colours_meet_at_the_value_that_leaves_plain_attention(neutral: float) -> None:
    (image,) = mask_heat_map(np.array([[neutral + 3, neutral - 1]]), neutral=neutral).axes[0].images
    low, high = image.get_clim()
    assert (low, high) == pytest.approx((neutral - 3, neutral + 3))
    assert image.cmap(image.norm(neutral)) == pytest.approx(image.cmap(0.5), abs=0.01)


def test_a_mask_that_is_the_same_everywhere_can_be_drawn(tmp_path) -> None:
    mask_heat_map(np.ones((4, 4)), [], [], "neutral").savefig(tmp_path / "mask.png")


def test_a_histogram_counts_every_weight() -> None:
    weights = np.random.default_rng(0).random((2, 4, 5, 5))
    figure = attention_histogram({"layer 1": weights, "layer 8": weights**2}, "LCAAM")
    assert [axes.get_title() for axes in figure.axes] == ["layer 1", "layer 8"]
    for axes in figure.axes:
        assert axes.get_yscale() == "log"
        assert sum(patch.get_data().values.sum() for patch in axes.patches) == weights.size


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(2, 3, 4\) is not \(queries, keys\)"):
        mask_heat_map(np.zeros((2, 3, 4)), [], [], "")
    with pytest.raises(ValueError, match="no layer"):
        attention_histogram({}, "")


@pytest.mark.parametrize(("layers", "shown"), [("abc", "ac"), ("ab", "ab"), ("a", "a")])
def test_the_first_and_the_last_layer_are_shown(layers: str, shown: str) -> None:
    assert "".join(first_and_last(dict.fromkeys(layers))) == shown
