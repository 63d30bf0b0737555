"""The ladder is a partial order from plain attention to the full mask, and names the least that explains a gain."""

from itertools import product

import pytest

from lcaam.ladder import RUNGS, below, minimal

CONTROLS = {"extra_linear", "extra_layers"}


@pytest.mark.parametrize("multiplies", [True, False])
def test_it_is_a_partial_order_from_none_to_content(multiplies):
    order = {pair for pair in product(RUNGS, repeat=2) if below(*pair, multiplies)}
    assert all((rung, rung) in order and ("none", rung) in order for rung in RUNGS)
    assert not any((high, low) in order for low, high in order if low != high)
    assert all((a, c) in order for (a, b), (d, c) in product(order, order) if b == d)
    alone = set() if multiplies else {"temperature"}
    alone |= {"span"} if multiplies else set()
    assert {rung for rung in RUNGS if (rung, "content") not in order} == CONTROLS | alone


def test_the_static_rungs_are_below_the_table_and_the_table_is_below_every_form_of_the_mask():
    for low in ("blocks", "columns", "offsets"):
        assert below(low, "table") and not below("table", low)
        assert not any(below(low, other) for other in ("blocks", "columns", "offsets") if other != low)
    chain = ["table", "frozen", "swapped", "lcaam", "multi_lcaam", "content"]
    assert all(below(low, high) == (chain.index(low) <= chain.index(high)) for low, high in product(chain, repeat=2))
    assert below("columns", "shuffled") and not below("table", "shuffled") and not below("shuffled", "swapped")
    assert below("temperature", "columns") and not below("temperature", "columns", multiplies=False)
    assert below("span", "offsets", multiplies=False) and not below("span", "offsets")


@pytest.mark.parametrize(
    ("reaching", "expected"),
    [
        ([], []),
        (RUNGS, ["none"]),
        (["lcaam"], ["lcaam"]),
        (["lcaam", "table", "columns", "frozen"], ["columns"]),
        (["table", "offsets", "columns", "multi_lcaam"], ["columns", "offsets"]),
        (["content", "shuffled", "extra_linear"], ["extra_linear", "shuffled"]),
        (["temperature", "columns", "table"], ["temperature"]),
    ],
)
def test_the_minimal_rungs(reaching, expected):
    assert minimal(reaching) == expected


def test_an_added_temperature_explains_nothing_else():
    assert minimal(["temperature", "columns", "table"], multiplies=False) == ["temperature", "columns"]


def test_an_unknown_rung_is_named():
    with pytest.raises(ValueError, match=r"unknown rung 'colums'; allowed: none, .*Did you mean 'columns'"):
        minimal(["colums"])
