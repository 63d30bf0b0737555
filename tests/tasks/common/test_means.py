"""Means over batches of unequal sizes, and of values that only some batches have."""

import pytest
import torch

from tasks.common.means import Means


def test_batches_weigh_as_much_as_they_are_large():
    means = Means(("loss", "span", "never"))
    for loss, size in ((1.0, 3), (5.0, 1), (0.5, 7)):
        means.update({"loss": torch.tensor(loss)}, size)
    means.update({"loss": torch.tensor(2.0), "span": torch.tensor(4.0)}, 2)
    assert means.compute() == pytest.approx({"loss": (3 + 5 + 3.5 + 4) / 13, "span": 4.0})
    means.reset()
    assert means.compute() == {}


def test_an_unannounced_value_is_named():
    with pytest.raises(KeyError, match="giuo: not among the announced giou"):
        Means(("giou",)).update({"giuo": torch.tensor(1.0)}, 1)
