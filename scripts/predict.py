"""Answers of a trained model for files of your own: images, or a video and sentences.

    python -m scripts.predict images FOLDER --checkpoint logs/... --top 5 --output answers.csv
    python -m scripts.predict moments --checkpoint logs/... --clip ... --video movie.mp4 --query "a dog runs"
    python -m scripts.predict captions VIDEO.mp4 --checkpoint logs/...

`python -m scripts.predict images --help` shows the options of one kind: --checkpoint, --top, --output, --device and
others. scripts.predict_images, scripts.predict_moments and scripts.caption_videos are the same commands.
"""

import importlib
import sys

from configs.errors import nearest

KINDS = {  # what is asked about -> the command that answers
    "images": "scripts.predict_images",
    "moments": "scripts.predict_moments",
    "captions": "scripts.caption_videos",
}


def main(given: list[str] | None = None) -> int:
    """Passes the words after the kind to its command; returns the exit status."""
    words = sys.argv[1:] if given is None else given
    if not words or words[0] in ("-h", "--help"):
        print(__doc__)
        return 0
    if words[0] not in KINDS:
        sys.exit(f"{words[0]}: not one of {', '.join(KINDS)}{nearest(words[0], KINDS)}")
    return importlib.import_module(KINDS[words[0]]).main(words[1:]) or 0


if __name__ == "__main__":
    sys.exit(main())
