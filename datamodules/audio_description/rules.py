"""Settings of described movies that do not go together, one function per rule; `validate` asks for them.

A rule gets the resolved configuration, whose types are right, and yields what to tell the user.
"""

from collections.abc import Iterator
from typing import Any

FOLDERS = {  # sounds -> the folder that they are read from
    "speech": "the recordings/ folder of a checkout of the Free Spoken Digit Dataset",
    "esc10": "the folder of ESC-10, with a folder for each class",
}


def sounds_need_generated_data(cfg: dict[str, Any]) -> Iterator[str]:
    """`data.sounds`, `data.speech_dir` and `data.esc10_dir` say what a generated sound track is made of."""
    data = cfg["data"]
    sounds, folders = data.get("sounds"), {kind: data.get(f"{kind}_dir") for kind in FOLDERS}
    needless = [kind for kind, folder in folders.items() if folder is not None and kind != sounds]
    if "mini" in data and data["mini"] is None and (sounds is not None or needless):
        given = f"data.sounds={sounds}" if sounds is not None else f"data.{needless[0]}_dir={folders[needless[0]]}"
        yield (
            f"{given}: belongs to generated data, and scale={cfg['scale_name']} reads the real data set; "
            "add scale=mini, or leave it out"
        )
        return
    if sounds in FOLDERS and folders[sounds] is None:
        yield (
            f"data.sounds: {sounds} needs data.{sounds}_dir=<{FOLDERS[sounds]}> (docs/datasets.md); data.sounds=tones "
            "needs nothing"
        )
    for kind in needless:
        yield f"data.{kind}_dir: is given, but data.sounds={sounds} does not use it; add data.sounds={kind}"


RULES = (sounds_need_generated_data,)
