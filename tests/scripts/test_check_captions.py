"""`python -m scripts.check_data msrvtt`: everything that training would stop at, in one go."""

import json
import shutil

import pytest

from datamodules.video_captioning import Captions
from scripts.check_data import main
from scripts.checks.captions import check_captions
from tests.datamodules.video_captioning.small import KEYWORDS, write_json, write_set


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("captions") / "set")


@pytest.fixture
def folder(pristine, tmp_path):
    return shutil.copytree(pristine, tmp_path / "set")


def check(folder, deep=None, **changes):
    return check_captions(Captions(**{**KEYWORDS, "root": str(folder), **changes}), deep)


def found(report) -> dict:
    return {kind: section.names for (kind, _), section in report.sections.items()}


@pytest.mark.parametrize("deep", [None, "sample", "all"])
@pytest.mark.parametrize("source", ["video", "features"])
def test_nothing_is_found_in_a_clean_set(folder, source, deep):
    report = check(folder, deep, source=source)
    assert report.found == 0 and report.sections == {}
    layout = (
        "MSRVTT_data.json: layout msrvtt, 45 captions of 15 clips; splits that it names: train 7, validate 3, test 5"
    )
    assert layout in report.looked_at
    assert "splits: train 7, val 3, test 5; split names in the annotations (train, validate, test)" in report.looked_at


def damage(folder):
    """One fault of every kind that does not hide another."""
    what = json.loads((folder / "MSRVTT_data.json").read_text())
    what["sentences"][0]["caption"] = ""
    what["sentences"][1]["video_id"] = "vidoe1"
    what["sentences"][2] |= {"caption": None}
    what["videos"].append({"video_id": "video99", "split": "train"})
    write_json(folder / "MSRVTT_data.json", what)
    (folder / "videos" / "video14.mp4").unlink()
    (folder / "videos" / "video3.mp4").write_bytes(b"x")


def test_every_fault_is_found_at_once_with_its_place(folder):
    damage(folder)
    sections = found(check(folder, "all"))
    file = "MSRVTT_data.json"
    assert sections["empty caption (stops training)"][file][0].startswith("sentences 0 (video0): empty caption")
    assert "Did you mean 'video1'" in sections["caption of an unknown video (stops training)"][file][0]
    assert "sentences 2 (video2)" in sections["caption that is not text (stops training)"][file][0]
    assert sections["clip without a caption (training leaves it out)"] == {file: ["video99"]}
    assert sections["clip without its file (stops training)"] == {"test (data.source=video)": ["video14"]}
    assert "video3.mp4" in sections["clip that cannot be read (stops training)"]["data.source=video"][0]
    left = found(check(folder, "all", defects="drop", missing="skip", corrupt="skip"))
    assert "empty caption (training leaves it out)" in left and "clip without its file (training leaves it out)" in left


def test_splits_that_disagree_and_files_that_cannot_be_read_are_found(folder):
    ranges = {"train": [0, 6], "val": [7, 9], "test": [10, 14]}
    what = json.loads((folder / "MSRVTT_data.json").read_text())
    for video in what["videos"]:
        video["split"] = "test" if video["video_id"] in ("video1", "video2") else "train"
    write_json(folder / "MSRVTT_data.json", what)
    sections = found(check(folder, id_ranges=ranges))
    (said,) = sections["splits that do not go together (stops training)"].values()
    assert "none is called validate" in said[0] and "By name: train 13, test 2" in said[0]
    (folder / "MSRVTT_data.json").write_text("{")
    sections = found(check(folder))
    assert "not a readable json file" in sections["cannot be read (stops training)"]["MSRVTT_data.json"][0]


def test_the_command_checks_what_training_reads_and_its_exit_status_says_what_it_found(folder, capsys, tmp_path):
    words = [f"data.root={folder}", "data.source=video", "data.id_ranges=null"]
    assert main(["msrvtt", *words]) == 0
    assert "0 findings of 0 kinds" in capsys.readouterr().out
    damage(folder)
    assert main(["msrvtt", *words, "--all"]) == 1
    assert "note: clip without a caption (training leaves it out): 1" in capsys.readouterr().out
    assert main(["msrvtt", f"data.root={tmp_path / 'nowhere'}"]) == 2
    assert "missing MSRVTT_data.json" in capsys.readouterr().err
    assert main(["msrvtt", "data=madv2", "task=audio_description"]) == 2
    assert "msrvtt is read by datamodules.video_captioning.Captions" in capsys.readouterr().err
