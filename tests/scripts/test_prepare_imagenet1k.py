"""ImageNet's archives become class folders: flat validation images by the development kit, one tar file per class."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from scripts.prepare_imagenet1k import main
from tests.datamodules.image_classification.small import encoded, picture

IDS = ["n02", "n01", "n03"]  # in the kit's order: number 1 is n02
TRUTH = [3, 1, 2, 1, 3]
EXPECTED = {f"ILSVRC2012_val_{i + 1:08}.JPEG": IDS[number - 1] for i, number in enumerate(TRUTH)}


def archive(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as file:
        for name, data in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(data)
            file.addfile(about, io.BytesIO(data))
    return path


def packed(members: dict[str, bytes], tmp_path: Path) -> bytes:
    return archive(tmp_path / "inner.tar", members).read_bytes()


@pytest.fixture
def kit(tmp_path) -> Path:
    """The development kit, unpacked: synsets above 1,000 are inner nodes there."""
    kind = [("ILSVRC2012_ID", object), ("WNID", object), ("words", object)]
    table = np.array([(i + 1, name, "words") for i, name in enumerate([*IDS, "n99"])], dtype=kind)
    (tmp_path / "kit/ILSVRC2012_devkit_t12/data").mkdir(parents=True)
    savemat(tmp_path / "kit/ILSVRC2012_devkit_t12/data/meta.mat", {"synsets": table.reshape(-1, 1)})
    truth = tmp_path / "kit/ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"
    truth.write_text("".join(f"{number}\n" for number in TRUTH))
    return tmp_path / "kit"


@pytest.fixture
def images() -> dict[str, bytes]:
    return {name: encoded(picture(number)) for number, name in enumerate(EXPECTED)}


def placed(out: Path) -> dict[str, str]:
    return {path.name: path.parent.name for path in out.rglob("*.JPEG")}


@pytest.mark.parametrize("form", ["folder", "archive"])
def test_a_flat_archive_is_sorted_by_the_development_kit(tmp_path, kit, images, form, capsys):
    source = archive(tmp_path / "val.tar", images)
    if form == "archive":
        with tarfile.open(tmp_path / "kit.tar.gz", "w:gz") as file:
            file.add(kit / "ILSVRC2012_devkit_t12", "ILSVRC2012_devkit_t12")
        kit = tmp_path / "kit.tar.gz"
    out = tmp_path / "out"
    main(["val", str(source), str(out), "--labels", str(kit)])
    assert placed(out) == EXPECTED and "5 images sorted into 3 classes, 0 were there" in capsys.readouterr().out
    assert all(next(out.rglob(name)).read_bytes() == data for name, data in images.items())
    next(out.rglob("*3.JPEG")).unlink()
    main(["val", str(source), str(out), "--labels", str(kit)])
    assert placed(out) == EXPECTED and "1 images sorted into 3 classes, 4 were there" in capsys.readouterr().out


def test_a_flat_folder_is_sorted_in_place_by_kaggles_table_and_by_a_list(tmp_path, images, capsys):
    lines = [f"{Path(name).stem},{label} 1 2 3 4 {label} 5 6 7 8\n" for name, label in EXPECTED.items()]
    (tmp_path / "sol.csv").write_text("ImageId,PredictionString\n" + "".join(reversed(lines)))
    (tmp_path / "list.txt").write_text("".join(f"{label}\n" for label in EXPECTED.values()))
    for labels in ("sol.csv", "list.txt"):
        out = tmp_path / labels.replace(".", "_")
        out.mkdir()
        for name, data in images.items():
            (out / name).write_bytes(data)
        main(["val", str(out), str(out), "--labels", str(tmp_path / labels)])
        assert placed(out) == EXPECTED and not list(out.glob("*.JPEG"))


def test_one_archive_per_class_is_unpacked_and_a_class_that_is_there_skipped(tmp_path, images, capsys):
    names = list(images)
    inner = {f"{label}.tar": packed({name: images[name] for name in names if EXPECTED[name] == label}, tmp_path)
             for label in IDS}  # fmt: skip
    main(["train", str(archive(tmp_path / "train.tar", inner)), str(tmp_path / "train")])
    assert placed(tmp_path / "train") == EXPECTED
    (tmp_path / "tars").mkdir()
    for name, data in inner.items():
        (tmp_path / "tars" / name).write_bytes(data)
    (tmp_path / "again" / "n01").mkdir(parents=True)
    capsys.readouterr()
    main(["train", str(tmp_path / "tars"), str(tmp_path / "again")])
    assert "4 images of 2 classes unpacked, 1 classes were there" in capsys.readouterr().out
    assert not list((tmp_path / "again").glob(".*"))


def test_what_cannot_be_sorted_is_named(tmp_path, kit, images):
    source, out = archive(tmp_path / "val.tar", images), str(tmp_path / "out")
    for words, message in (
        (["val", str(source), out], "--labels says what each one shows"),
        (["val", str(tmp_path / "no.tar"), out], "no such file"),
        (["train", str(source), out], "no tar file of a class in it"),
        (["val", str(source), out, "--labels", str(tmp_path / "no.txt")], "no such file"),
        (
            ["val", str(source), out, "--labels", str(kit / "ILSVRC2012_devkit_t12/data/meta.mat")],
            "meta.mat: the id .* cannot be printed",
        ),
        (["val", str(source), out, "--labels", str(source)], "is it the development kit"),
    ):
        with pytest.raises(SystemExit, match=message):
            main(words)
    (tmp_path / "truth.txt").write_text("3\n1\n2\n1\n3\n")
    with pytest.raises(SystemExit, match="the development kit's own order; give --labels the kit"):
        main(["val", str(source), out, "--labels", str(tmp_path / "truth.txt")])
    (tmp_path / "short.txt").write_text("n01\nn02\n")
    with pytest.raises(SystemExit, match="has 2 lines for 5 images"):
        main(["val", str(source), out, "--labels", str(tmp_path / "short.txt")])


def test_a_damaged_class_leaves_no_folder(tmp_path):
    (tmp_path / "tars").mkdir()
    whole = packed({f"{i}.JPEG": encoded(picture(i)) for i in range(3)}, tmp_path)
    (tmp_path / "tars/n01.tar").write_bytes(whole[: len(whole) // 3])
    with pytest.raises(SystemExit, match=r"n01\.tar cannot be unpacked"):
        main(["train", str(tmp_path / "tars"), str(tmp_path / "out")])
    assert not list((tmp_path / "out").iterdir())
