"""`python -m scripts.check_data moments`: everything that training would stop at, in one go."""

import json
import shutil

import numpy as np
import pytest

from scripts.check_data import main
from scripts.checks.moments import check_moments
from tests.datamodules.moment_retrieval.small import KEYWORDS, Moments, read_lines, write_lines, write_set


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("moments") / "set")


@pytest.fixture
def folder(pristine, tmp_path):
    return shutil.copytree(pristine, tmp_path / "set")


def check(folder, deep=None, **changes):
    return check_moments(Moments(**{**KEYWORDS, "root": str(folder), **changes}), deep)


@pytest.mark.parametrize("deep", [None, "sample", "all"])
def test_nothing_is_found_in_a_clean_set(folder, deep):
    report = check(folder, deep)
    assert report.found == 0 and report.sections == {}
    assert "train.jsonl: 13 queries of 7 videos" in report.looked_at


def damage(folder):
    """One fault of every kind that does not hide another."""
    rows = read_lines(folder / "train.jsonl")
    rows[0]["relevant_windows"] = [[0, 900], [2, 2]]
    rows[1]["query"] = ""
    rows[2] |= {"relevant_windows": [], "relevant_clip_ids": [], "saliency_scores": []}
    rows[3]["relevant_clip_ids"] = [*rows[3]["relevant_clip_ids"][:-1], 99]
    write_lines(folder / "train.jsonl", rows)
    (folder / "text" / "qid20.npz").unlink()
    np.savez(folder / "slow" / "train3_0.0.npz", features=np.ones((40, 7), np.float32))
    values = np.load(folder / "clip" / "val1_0.0.npz")["features"]
    values[1, 1] = np.nan
    np.savez(folder / "clip" / "val1_0.0.npz", features=values)


def test_every_fault_is_found_at_once_with_its_place(folder):
    damage(folder)
    report = check(folder, "all")
    found = {kind: section.names for (kind, _), section in report.sections.items()}
    assert found["window outside the video (stops training)"]["train.jsonl"][0].startswith(
        "line 1 (qid 0, vid train0_0.0)"
    )
    assert "window of no length (stops training)" in found
    assert "query is ''" in found["malformed annotation (stops training)"]["train.jsonl"][0]
    assert found["query that matches nothing"] == {"train.jsonl": ["qid 2 (vid train1_0.0)"]}
    assert "relevant clip 99" in found["relevant clip outside the video (stops training)"]["train.jsonl"][0]
    assert found["video or query without features (stops training)"] == {"text": ["qid20.npz"]}
    (rate,) = [kind for kind in found if kind.startswith("rows of another clip length")]
    assert "s per row would fit" in rate and found[rate]["slow"] == [
        "vid train3_0.0 (40 rows are 80 s, the video has 6 s)"
    ]
    assert "not finite" in found["cannot be read (stops training)"]["clip"][0]
    assert [note for _, note in report.sections if note] == [True]
    kinds = " ".join(check(folder, defects="clip").kinds())
    assert "window outside the video (training cuts it)" in kinds and "malformed annotation (stops training)" in kinds


@pytest.mark.parametrize(
    "change", [{"test_annotations": "absent.jsonl"}, {"text_stream": {"path": "absent", "dim": 6}}]
)
def test_missing_files_are_findings(folder, change):
    report = check(folder, **change)
    assert report.found and "absent" in report.text(5)


def test_splits_that_share_videos_are_found(folder):
    stolen = read_lines(folder / "train.jsonl")[4]
    write_lines(folder / "val.jsonl", [*read_lines(folder / "val.jsonl"), stolen])
    assert check(folder).kinds() == ["splits that do not go together (stops training)"]


def test_streams_of_different_rates_are_found(folder):
    for path in (folder / "slow").glob("*.npz"):
        np.savez(path, features=np.ones((30, 7), np.float32))
    for path in (folder / "clip").glob("*.npz"):
        np.savez(path, features=np.ones((20, 5), np.float32))
    for name in ("train.jsonl", "val.jsonl", "test.jsonl"):
        write_lines(folder / name, [row | {"duration": 50} for row in read_lines(folder / name)])
    assert check(folder, saliency="none").kinds() == [
        "streams of a video with rows of different lengths (stops training)"
    ]


def test_1300_bad_windows_are_counted_and_listed(folder):
    rows = [
        read_lines(folder / "test.jsonl")[0] | {"qid": 5000 + i, "relevant_windows": [[90, 91]]} for i in range(1300)
    ]
    for row in rows:
        shutil.copyfile(folder / "text" / "qid18.npz", folder / "text" / f"qid{row['qid']}.npz")
    write_lines(folder / "test.jsonl", [*read_lines(folder / "test.jsonl"), *rows])
    report = check(folder)
    assert report.kinds() == ["window outside the video (stops training)"] and report.found == 1300
    assert report.text(None).count("window [90, 91]") == 1300 and "and 1295 more" in report.text(5)


def test_the_command(folder, tmp_path, capsys):
    small = ["data=charades_sta", f"data.root={folder}", "data.clip_length=2", "data.saliency=annotated"]
    small += [f"data.{split}_annotations={split}.jsonl" for split in ("train", "val", "test")]
    small += ["data.video_streams.slowfast_features={path: slow, dim: 7}", "data.text_stream.path=text"]
    small += ["data.video_streams.clip_features={path: clip, dim: 5}", "data.text_stream.dim=6"]
    assert main(["moments", *small]) == 0
    assert "0 findings of 0 kinds" in capsys.readouterr().out
    damage(folder)
    assert main(["moments", *small, "--all"]) == 1
    assert "line 1 (qid 0, vid train0_0.0): window [0, 900]" in capsys.readouterr().out
    assert main(["moments", f"data.root={tmp_path / 'absent'}"]) == 2
    assert "missing highlight_train_release.jsonl" in capsys.readouterr().err
    assert main(["moments", "data=madv2", "task=audio_description"]) == 2
    assert "moments is read by datamodules.moment_retrieval.Moments" in capsys.readouterr().err


def test_the_generated_data_are_clean(compose_run, capsys):
    cfg = compose_run("experiment=qvhighlights_baseline", "scale=smoke")
    assert (
        main(["moments", "experiment=qvhighlights_baseline", "scale=smoke", f"paths.data_dir={cfg.paths.data_dir}"])
        == 0
    )


def test_rows_of_labels_are_checked(folder):
    for name in ("train.jsonl", "val.jsonl", "test.jsonl"):
        rows = [
            row | {"label": [[1]] * (row["duration"] // 2), "relevant_windows": None}
            for row in read_lines(folder / name)
        ]
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert check(folder, saliency="labels").found == 0
    rows[0]["label"] = rows[0]["label"] * 3
    rows[1]["label"] = rows[1]["label"] * 3
    write_lines(folder / "test.jsonl", rows)
    (names,) = [
        section.names["slow"] for (kind, _), section in check(folder, saliency="labels").sections.items()
        if kind == "rows of another clip length (stops training)" and "slow" in section.names
    ]  # fmt: skip
    assert names == ["vid test0_0.0 (2 rows for 6 labels)"]
