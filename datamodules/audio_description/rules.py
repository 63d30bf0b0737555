"""Settings of described movies that do not go together, one function per rule; `validate` asks for them.

A rule gets the resolved configuration, whose types are right, and yields what to tell the user.
"""

from collections.abc import Iterator
from typing import Any


def sounds_need_generated_data(cfg: dict[str, Any]) -> Iterator[str]:
    """`data.sounds` and `data.speech_dir` say what a generated sound track is made of."""
    data = cfg["data"]
    sounds, folder = data.get("sounds"), data.get("speech_dir")
    if "mini" in data and data["mini"] is None and (sounds is not None or folder is not None):
        given = f"data.sounds={sounds}" if sounds is not None else f"data.speech_dir={folder}"
        yield (
            f"{given}: belongs to generated data, and scale={cfg['scale_name']} reads the real data set; "
            "add scale=mini, or leave it out"
        )
    elif sounds == "speech" and folder is None:
        yield (
            "data.sounds: speech needs data.speech_dir=<the recordings/ folder of a checkout of the Free Spoken Digit "
            "Dataset> (docs/datasets.md); data.sounds=tones needs nothing"
        )
    elif folder is not None and sounds != "speech":
        yield f"data.speech_dir: is given, but data.sounds={sounds} does not use it; add data.sounds=speech"


RULES = (sounds_need_generated_data,)
