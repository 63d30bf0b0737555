"""A fake text file (datamodules/fake.py)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.fake import Fake
from datamodules.language_model.stand_in import CHARACTERS

REAL = 1_115_394  # characters, and bytes, of tiny Shakespeare
WINDOWS = 20  # of the training part


def write(folder: Path, data: Mapping[str, Any]) -> Fake:
    """Random characters; parts of the same shares as the real text's."""
    context, share = data["context"], data["parts"][0]
    count = round((WINDOWS + 1) * context / share) + 1
    random = np.random.default_rng(0)
    text = "".join(random.choice(list(CHARACTERS), size=count))
    (folder / "text.txt").write_text(text, encoding="utf-8")
    training = round(REAL * share) // context - 1
    return Fake(WINDOWS, training, REAL, f"{REAL:,} characters", {"files": str(folder / "text.txt")})
