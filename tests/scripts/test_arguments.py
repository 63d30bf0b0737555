"""What options of several commands have in common."""

import argparse
from pathlib import Path

import pytest

from scripts import predict_moments
from scripts.arguments import picture


def test_a_picture_has_an_ending_that_can_be_written():
    assert [picture(name) for name in ("a.PDF", "b/c.d/mask", "m.svg")] == [
        Path("a.PDF"), Path("b/c.d/mask.png"), Path("m.svg")
    ]  # fmt: skip
    with pytest.raises(argparse.ArgumentTypeError, match="a.xyz ends in .xyz; allowed: .png, .pdf, .svg"):
        picture("a.xyz")


def test_another_ending_is_refused_before_any_work(capsys):
    with pytest.raises(SystemExit):
        predict_moments.main(["--checkpoint", "none", "--video", "a.npz", "--query", "q.npz", "--plot", "m.npz"])
    assert "m.npz ends in .npz; allowed: .png, .pdf, .svg" in capsys.readouterr().err
