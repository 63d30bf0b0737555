"""Outputs of the original implementations and real annotations, if the checkout has them beside it (../shared)."""

import importlib.util
from pathlib import Path

import pytest

PARITY = Path(__file__).resolve().parents[2] / "shared" / "parity"
QVHIGHLIGHTS = PARITY.parent / "qvhighlights"

needs_parity = pytest.mark.skipif(
    not PARITY.is_dir(), reason="the golden outputs of the original implementations are not beside this checkout"
)
needs_qvhighlights = pytest.mark.skipif(
    not QVHIGHLIGHTS.is_dir(), reason="the annotations of QVHighlights are not beside this checkout"
)


def fill():
    """The functions `normal(name, shape, seed)` and `parameter(name, shape, seed)` that made the cases' numbers."""
    spec = importlib.util.spec_from_file_location("parity_fill", PARITY / "fill.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
