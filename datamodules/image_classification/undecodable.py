"""Finds the images of a split that cannot be decoded, before a run depends on them.

check_images(ImageFolder(Path("data/imagenet1k/train")))    # {"n01440764/broken.JPEG": "... cannot be decoded ..."}
"""

import hashlib
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from datamodules.errors import DataError
from datamodules.formats.kept import read_kept, reasons, write_kept
from datamodules.pixels import DEEP, decode

log = logging.getLogger(__name__)

CHUNK = 256  # images in memory at a time


def check_images(source, threads: int | None = None, white: int = DEEP) -> dict[str, str]:
    """name -> what is wrong, for every image that cannot be read and decoded completely, in order of the names.

    source: ImageFolder, ImageShards or TarShards; threads: None is one per processor. Decodes every image once
    (ImageNet-1K: a few CPU hours).
    """

    def attempt(step):
        try:
            return step()
        except DataError as error:
            return str(error)

    found = {}
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        # Shards are read by this thread alone: a row group that two threads want would be read twice.
        read = pool.map if source.groups is None else map
        for start in range(0, len(source), CHUNK):
            indices = range(start, min(start + CHUNK, len(source)))
            files = list(read(lambda i: attempt(lambda: source.read(i)), indices))
            told = pool.map(
                lambda i, data: (
                    data if isinstance(data, str) else attempt(lambda: decode(data, source.where(i), white))
                ),
                indices, files,
            )  # fmt: skip
            found |= {os.fsdecode(source.names[i]): t for i, t in zip(indices, told, strict=True) if isinstance(t, str)}
    return dict(sorted(found.items()))


def undecodable(source, keep: Path, white: int = DEEP) -> dict[str, str]:
    """The result of check_images, kept in a file in the folder `keep` for the next run.

    The file is named after all names, sizes and times of change, so an image that was replaced is checked again.
    """
    digest = hashlib.sha256(source.names.tobytes())
    if white != DEEP:  # the lists of before stay valid
        digest.update(str(white).encode())
    for stamp in source.stamps():
        digest.update(repr(stamp).encode())
    kept = keep / f".undecodable-{digest.hexdigest()[:12]}.json"
    if (found := read_kept(kept, reasons)) is not None:
        return found
    log.info("decoding all %d images once, to find those that cannot be (data.corrupt=skip)", len(source))
    found = check_images(source, white=white)
    write_kept(kept, found)
    return found
