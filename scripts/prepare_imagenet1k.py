"""Sorts what image-net.org gives into one folder per class, as data=imagenet1k reads it.

    python -m scripts.prepare_imagenet1k train ILSVRC2012_img_train.tar data/imagenet1k/train
    python -m scripts.prepare_imagenet1k val ILSVRC2012_img_val.tar data/imagenet1k/val \\
        --labels ILSVRC2012_devkit_t12.tar.gz
    python -m scripts.prepare_imagenet1k val data/imagenet1k/val data/imagenet1k/val --labels LOC_val_solution.csv

train: the archive with one tar file per class inside, or a folder of such tar files (any data set's): each becomes a
folder of its name. val: the flat archive, or a folder of its images, which are moved if that folder is the target and
copied if it is not. --labels says what the validation images show: the development kit (its archive, or the folder that
it was unpacked to), Kaggle's LOC_val_solution.csv, or a text file with one ImageNet id per line, in the order of the
images' names.

A class is complete or absent, so a command that was stopped can be started again: what is there is skipped. Archives
are not deleted. Names that would lead to another folder are refused.
"""

import argparse
import os
import re
import shutil
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from rich.console import Console

from datamodules.errors import DataError, some
from datamodules.formats.guard import reading
from datamodules.formats.names import file_name
from datamodules.formats.tar_files import files_in
from datamodules.image_classification.folder import is_image
from scripts.arguments import parser_for
from scripts.extracting import progress
from scripts.imagenet_labels import labels_of

PARTIAL = ".partial"


@contextmanager
def folder_of(out: Path, name: str) -> Iterator[Path]:
    """A folder to write into that gets its name by one rename, when all is written."""
    draft = out / f".{name}{PARTIAL}"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        yield draft
        draft.rename(out / name)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def unpack(archive: IO[bytes], where: str, folder: Path) -> int:
    """Writes the images of a class's tar file into `folder`; returns their number. DataError: damaged, or no image."""
    count = 0
    with reading(f"{where} cannot be unpacked"), tarfile.open(fileobj=archive, mode="r:") as members:
        for member in files_in(members):
            name = Path(member.name).name
            if is_image(name):
                with (folder / file_name(name, where)).open("wb") as file:
                    shutil.copyfileobj(members.extractfile(member), file)
                count += 1
    if not count:
        raise DataError(f"{where}: no image in it.")
    return count


def class_archives(source: Path) -> Iterator[tuple[str, str, IO[bytes]]]:
    """Class, place in words, and opened tar file of every class. DataError: none."""
    found = 0
    if source.is_dir():
        for path in sorted(source.glob("*.tar")):
            found += 1
            with path.open("rb") as file:
                yield file_name(path.stem, str(source)), str(path), file
    else:
        with reading(f"{source} cannot be read as an archive"), tarfile.open(source) as outer:
            for member in files_in(outer):
                if member.name.endswith(".tar"):
                    found += 1
                    stem = Path(member.name).stem
                    yield file_name(stem, str(source)), f"{source}:{member.name}", outer.extractfile(member)
    if not found:
        raise DataError(f"{source}: no tar file of a class in it, such as n01440764.tar.")


def sort_train(source: Path, out: Path, console: Console) -> str:
    """Unpacks one tar file per class."""
    images = classes = there = 0
    with progress(console) as bar:
        for name, where, archive in bar.track(class_archives(source), total=None, description="classes"):
            if (out / name).is_dir():
                there += 1
                continue
            with folder_of(out, name) as draft:
                images += unpack(archive, where, draft)
            classes += 1
    return f"{out}: {images:,} images of {classes} classes unpacked, {there} classes were there"


def sort_val(source: Path, out: Path, labels: dict[str, str] | list[str], console: Console) -> str:
    """Moves (within one folder) or copies flat images into class folders."""
    if source.is_dir():
        names = sorted(entry.name for entry in os.scandir(source) if entry.is_file() and is_image(entry.name))
    else:
        with reading(f"{source} cannot be read as an archive"), tarfile.open(source) as archive:
            names = sorted(name for m in files_in(archive) if is_image(name := Path(m.name).name))
    done = {path.name for path in out.glob("*/*") if is_image(path.name)} if out.is_dir() else set()
    if not names and not done:
        raise DataError(f"{source}: no image in it.")
    label = by_name(sorted({*names, *done}), labels)
    if unknown := [name for name in names if name not in label]:
        raise DataError(f"{source}: --labels says nothing of {some(unknown)} ({len(unknown)} of {len(names)} images).")
    for folder in {label[name] for name in names}:
        (out / file_name(folder, "--labels")).mkdir(parents=True, exist_ok=True)
    with progress(console) as bar:
        for name, write in bar.track(flat_images(source, out), total=len(names), description="images"):
            if name not in done:
                write(out / label[name] / name)
    new, classes = len(set(names) - done), len(set(label.values()))
    return f"{out}: {new:,} images sorted into {classes} classes, {len(done):,} were there"


def flat_images(source: Path, out: Path) -> Iterator[tuple]:
    """Name of each image, and what puts it at a path."""
    if source.is_dir():
        move = source.resolve() == out.resolve()
        for path in sorted(path for path in source.iterdir() if path.is_file() and is_image(path.name)):
            yield path.name, (path.rename if move else lambda target, path=path: whole(target, path.open("rb")))
        return
    with reading(f"{source} cannot be read as an archive"), tarfile.open(source) as archive:
        for member in files_in(archive):
            if is_image(name := Path(member.name).name):
                yield name, lambda target, member=member: whole(target, archive.extractfile(member))


def whole(target: Path, content: IO[bytes]) -> None:
    """Writes a file that is complete or absent."""
    draft = target.with_name(f".{target.name}{PARTIAL}")
    try:
        with content, draft.open("wb") as file:
            shutil.copyfileobj(content, file)
        draft.rename(target)
    finally:
        draft.unlink(missing_ok=True)


def by_name(names: list[str], labels: dict[str, str] | list[str]) -> dict[str, str]:
    """The class of every image. A list has one entry per image, in the order of the names' numbers. DataError."""
    if isinstance(labels, dict):
        return {name: labels[Path(name).stem] for name in names if Path(name).stem in labels}
    numbers = {name: re.search(r"(\d+)\.\w+$", name) for name in names}
    if all(numbers.values()):  # ILSVRC2012_val_00000001.JPEG is the first, also if others are not there
        found = {name: int(match[1]) for name, match in numbers.items()}
        if max(found.values(), default=0) <= len(labels) and min(found.values(), default=1) >= 1:
            return {name: labels[number - 1] for name, number in found.items()}
    if len(names) != len(labels):
        raise DataError(f"--labels has {len(labels):,} lines for {len(names):,} images; one per image is needed.")
    return dict(zip(names, labels, strict=True))


def main(given: list[str] | None = None) -> None:
    parser = parser_for("prepare_imagenet1k", __doc__)
    parser.add_argument("split", choices=("train", "val"), help="one tar file per class, or flat images with labels")
    parser.add_argument("source", type=Path, help="an archive or a folder")
    parser.add_argument("out", type=Path, help="the folder of class folders; made if need be")
    parser.add_argument("--labels", type=Path, help="val: development kit, LOC_val_solution.csv, or a list of ids")
    try:
        print(run(parser.parse_args(given)))
    except (DataError, OSError) as error:
        sys.exit(str(error))


def run(chosen: argparse.Namespace) -> str:
    """Does what was asked for; returns a line that says what was done."""
    console = Console(stderr=True)
    if not chosen.source.exists():
        raise DataError(f"{chosen.source}: no such file or folder.")
    if chosen.split == "train":
        return sort_train(chosen.source, chosen.out, console)
    if chosen.labels is None:
        raise DataError("val: the images are not named after their classes: --labels says what each one shows.")
    return sort_val(chosen.source, chosen.out, labels_of(chosen.labels), console)


if __name__ == "__main__":
    main()
