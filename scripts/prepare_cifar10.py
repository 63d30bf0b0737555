"""Makes the shards that data=cifar10 reads, from torchvision's download of CIFAR-10.

    python -m scripts.prepare_cifar10 data/cifar10                       downloads 170 MB, then writes two shards
    python -m scripts.prepare_cifar10 data/cifar10 --download FOLDER     FOLDER has, or gets, torchvision's files

Writes train-00000-of-00001.parquet (50,000 images) and test-00000-of-00001.parquet (10,000) in the hub's layout: PNG
files, which lose nothing, class numbers, and the classes' names. Files that torchvision has downloaded before are not
downloaded again; without a network, unpack cifar-10-python.tar.gz in FOLDER, so that FOLDER/cifar-10-batches-py is
there. Needs pyarrow. A shard is complete or absent.
"""

import io
import json
import sys
from pathlib import Path
from typing import Any

from PIL import Image
from torchvision.datasets import CIFAR10

from datamodules.image_classification.shards import parquet
from scripts.arguments import parser_for

GROUP = 1000  # images in a row group
SPLITS = {"train": True, "test": False}  # name of the shard -> torchvision's `train`


def opened(folder: Path, train: bool) -> CIFAR10:
    """A split from torchvision's files in `folder`, which are downloaded if they are not there.

    SystemExit, in one line, if they can neither be read nor downloaded.
    """
    try:
        return CIFAR10(str(folder), train=train, download=True)
    except (OSError, RuntimeError) as error:  # URLError is an OSError; RuntimeError: files that are not CIFAR-10's
        why = " ".join(str(error).split())
        sys.exit(
            f"CIFAR-10 is not in {folder.resolve()} and could not be downloaded from {CIFAR10.url} ({why}); without a "
            f"network, unpack {CIFAR10.filename} there, so that {folder / CIFAR10.base_folder} holds its files."
        )


def as_png(pixels: Any) -> bytes:
    """pixels (32, 32, 3) uint8."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write(split: CIFAR10, name: str, folder: Path) -> Path:
    """Writes a split's shard, by one rename."""
    import pyarrow as pa

    feature = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": split.classes}}
    told = {"huggingface": json.dumps({"info": {"features": feature}})}
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", image), ("label", pa.int64())], metadata=told)
    path = folder / f"{name}-00000-of-00001.parquet"
    draft = path.with_name(f".{path.name}.partial")
    try:
        with parquet().ParquetWriter(draft, schema) as writer:
            for first in range(0, len(split), GROUP):
                numbers = range(first, min(first + GROUP, len(split)))
                images = [{"bytes": as_png(split.data[i]), "path": f"{name}_{i:05d}.png"} for i in numbers]
                labels = [int(split.targets[i]) for i in numbers]
                writer.write_table(pa.table({"image": images, "label": labels}, schema=schema))
        draft.rename(path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def main(arguments: list[str] | None = None) -> None:
    parser = parser_for("prepare_cifar10", __doc__)
    parser.add_argument("folder", type=Path, help="where the shards are written; made if need be")
    parser.add_argument("--download", type=Path, help="where torchvision's files are (default: FOLDER/download)")
    chosen = parser.parse_args(arguments)
    try:
        parquet()  # before a download
        chosen.folder.mkdir(parents=True, exist_ok=True)
        for name, train in SPLITS.items():
            split = opened(chosen.download or chosen.folder / "download", train)
            print(f"{write(split, name, chosen.folder)}: {len(split):,} images of {len(split.classes)} classes")
    except (ImportError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
