"""Files as they were published: all their defects at once, counted; cut or left out if that is asked for."""

import logging

import numpy as np
import pytest

from datamodules.errors import DataError
from datamodules.moment_retrieval.annotations import Form, read_annotations, read_moments
from datamodules.moment_retrieval.defects import Defect, repaired
from datamodules.moment_retrieval.labels import LabelSettings, label_saliency
from datamodules.moment_retrieval.legal import Tolerance, clips_of, scored_clips, whole_clips
from tests.datamodules.moment_retrieval.small import ANNOTATIONS, open_set, read_lines, write_features, write_lines
from tests.datamodules.moment_retrieval.test_defects import changed

BAD = {  # the kinds that public files have: windows -> what is left of them in 20 s
    "at the end": ([[20, 21]], None),
    "of no length": ([[4, 4]], None),
    "far past the end": ([[8, 5000]], [[8, 20]]),
    "before the video": ([[-3, 5]], [[0, 5]]),
    "reversed": ([[8, 4]], None),
    "one of two": ([[4, 8], [19, 33]], [[4, 8], [19, 20]]),
}


def bad_rows():
    return [changed({"qid": qid, "relevant_windows": windows}) for qid, (windows, _) in enumerate(BAD.values())]


def read(tmp_path, rows, **keywords):
    write_lines(tmp_path / "a.jsonl", rows)
    return read_moments(tmp_path / "a.jsonl", **{"clip_length": 2.0, "saliency": False, **keywords})


def test_every_defect_is_listed_at_once_and_counted(tmp_path):
    with pytest.raises(DataError) as stop:
        read(tmp_path, bad_rows())
    message = str(stop.value)
    for qid, (windows, _) in enumerate(BAD.values()):
        assert f"line {qid + 1} (qid {qid}, vid v_0.0_20.0): window {windows[-1]}" in message
    assert "6 defects: 4 x window outside the video, 1 x window of no length, 1 x window that ends before" in message
    assert "data.defects=clip" in message and "scripts.check_data moments" in message


def test_1300_bad_rows_are_counted_and_the_first_are_listed(tmp_path):
    rows = [changed({"qid": qid, "relevant_windows": [[100, 101]]}) for qid in range(1300)]
    with pytest.raises(DataError, match=r"1,300 defects \(1,280 are not listed here\): 1,300 x window outside") as stop:
        read(tmp_path, [*rows, changed({"qid": 9999})])
    assert str(stop.value).count("window [100, 101]") == 20
    assert len(read(tmp_path, [*rows, changed({"qid": 9999})], defects="drop")) == 1


def test_clip_cuts_at_the_ends_and_leaves_out_what_has_nothing_left(tmp_path):
    found = {row["qid"]: row["relevant_windows"] for row in read(tmp_path, bad_rows(), defects="clip")}
    assert found == {qid: left for qid, (_, left) in enumerate(BAD.values()) if left}


def test_drop_leaves_out_every_query_with_a_defect(tmp_path):
    assert read(tmp_path, [*bad_rows(), changed({"qid": 99})], defects="drop") == [changed({"qid": 99})]
    with pytest.raises(DataError, match="a.jsonl: no annotation is left"):
        read(tmp_path, bad_rows(), defects="drop")


def test_slack_helps_a_window_that_begins_at_the_end(tmp_path):
    row = changed({"relevant_windows": [[20, 21]]})
    assert read(tmp_path, [row], slack=1.0) == [row]
    assert read(tmp_path, [row], slack=1.0, defects="clip") == [row]


def test_clips_outside_are_cut_with_their_scores_and_other_scores_leave_the_query_out(tmp_path):
    rows = [
        changed({"qid": 1, "relevant_clip_ids": [2, 10]}),
        changed({"qid": 2, "saliency_scores": [[4, 3, 3], [1, 0]]}),
        changed({"qid": 3, "saliency_scores": [[4, 3], [1, 0]]}),
    ]
    (found,) = read(tmp_path, [changed({}), *rows], saliency=True, defects="clip")[1:]
    assert (found["relevant_clip_ids"], found["saliency_scores"]) == ([2], [[4, 3, 3]])
    with pytest.raises(DataError, match="saliency scores of 2 raters, but the first query's have 3"):
        read(tmp_path, [changed({}), rows[2]], saliency=True)


def test_what_is_no_annotation_stops_whatever_is_asked_for_and_all_of_it_is_listed(tmp_path):
    write_lines(tmp_path / "a.jsonl", [changed({"query": ""}), changed({"qid": 1, "duration": 0}), changed({"qid": 2})])
    with pytest.raises(DataError, match="2 defects: 2 x malformed annotation") as stop:
        read_moments(tmp_path / "a.jsonl", clip_length=2.0, saliency=False, defects="drop")
    assert "line 1 (qid 12" in str(stop.value) and "line 2 (qid 1" in str(stop.value)
    assert "data.defects" not in str(stop.value)


def test_repairing_leaves_a_row_without_defects_alone():
    row = changed({})
    assert repaired(row, [], Tolerance(), 2.0) == row
    assert repaired(row, [Defect("malformed labels", "")], Tolerance(), 2.0) is None


# The data module


def test_all_files_are_checked_and_counts_are_said(folder, caplog):
    for name in ANNOTATIONS.values():
        rows = read_lines(folder / name)
        rows[1]["relevant_windows"] = [[rows[1]["duration"], rows[1]["duration"] + 1]]
        rows[2]["relevant_windows"] = [[0, 2], [2, 900]]
        write_lines(folder / name, rows)
    with pytest.raises(DataError) as stop:
        open_set(folder)
    assert all(f"{name}: 2 defects" in str(stop.value) for name in ANNOTATIONS.values())
    with caplog.at_level(logging.WARNING):
        data = open_set(folder, defects="clip")
    assert "1 queries were cut, 1 were left out, 12 are left (data.defects=clip)" in caplog.text
    assert [len(data.annotations(split)) for split in ANNOTATIONS] == [12, 4, 6]
    assert data.annotations("val")[1]["relevant_windows"] == [[0, 2], [2, data.annotations("val")[1]["duration"]]]
    assert [len(open_set(folder, defects="drop").annotations(split)) for split in ANNOTATIONS] == [11, 3, 5]


def test_queries_that_match_nothing_are_trained_on_and_their_number_is_said(folder, caplog):
    nothing = {"relevant_windows": [], "relevant_clip_ids": [], "saliency_scores": []}
    for split in ("train", "val"):
        rows = read_lines(folder / ANNOTATIONS[split])
        write_lines(folder / ANNOTATIONS[split], [*rows[:-1], {**rows[-1], **nothing}])
    with caplog.at_level(logging.WARNING):
        assert len(open_set(folder).annotations("val")) == 5
    assert "val.jsonl: 1 of 5 queries match nothing" in caplog.text and "train.jsonl" not in caplog.text
    with pytest.raises(DataError, match="val.jsonl: 1 of 5 queries match nothing .* data.unmatched=skip leaves them"):
        open_set(folder, unmatched="stop")
    write_lines(folder / "val.jsonl", [{**row, **nothing} for row in read_lines(folder / "val.jsonl")])
    with pytest.raises(DataError, match="5 of 5 queries match nothing .*, so nothing can be scored"):
        open_set(folder)
    write_lines(folder / "train.jsonl", [{**row, **nothing} for row in read_lines(folder / "train.jsonl")])
    with pytest.raises(DataError, match="train.jsonl: no query has a window, so nothing can be learned"):
        open_set(folder)


def test_ratings_that_only_some_evaluated_queries_have_are_refused_though_windows_are_trained_on(folder):
    rows = read_lines(folder / "val.jsonl")
    write_lines(folder / "val.jsonl", [{k: v for k, v in rows[0].items() if k != "saliency_scores"}, *rows[1:]])
    with pytest.raises(DataError, match=r"val.jsonl, line 1 .*: no key saliency_scores"):
        open_set(folder, saliency="windows")
    assert len(open_set(folder, saliency="none").annotations("val")) == 5


@pytest.mark.parametrize(
    "seconds, length, all_of_them, whole", [(31, 2.0, 16, 15), (1.9, 2.0, 1, 0), (0.6, 0.2, 3, 3), (1.1, 0.1, 11, 11)]
)
def test_clips_of_a_video(seconds, length, all_of_them, whole):
    assert (clips_of(seconds, length), whole_clips(seconds, length)) == (all_of_them, whole)
    assert clips_of(np.array([seconds] * 2), length).tolist() == [all_of_them] * 2
    assert scored_clips(seconds, length) == max(1, whole)
    assert scored_clips(seconds, length, all_of_them - 1) == all_of_them


# Highlights alone


def labelled(folder, raters=20):
    """Three videos per split of two domains, with labels and features; as TVSum has them."""
    rng = np.random.default_rng(0)
    for name in ANNOTATIONS.values():
        rows = []
        for i in range(4):
            vid, clips = f"{name[:-6]}{i}", 6 + i
            row = {"qid": vid, "query": "how to", "vid": vid, "duration": 3.7 * clips, "relevant_windows": None}
            row |= {
                "relevant_clip_ids": None,
                "domain": "AB"[i % 2],
                "label": rng.integers(1, 6, (clips, raters)).tolist(),
            }
            rows.append(row)
        write_lines(folder / name, rows)
        write_features(folder, rows, rng, clip_length=3.7)
    return folder


TVSUM = {"saliency": "labels", "labels": {"lowest": 1, "highest": 5, "top": 5, "positive": "median"}}


def test_labels_of_every_clip_are_read_and_trained_on(tmp_path):
    data = open_set(labelled(tmp_path), domain="B", batch_size=2, **TVSUM)
    assert [row["vid"] for row in data.annotations("val")] == ["val1", "val3"]
    assert data.facts()["highlights"]["top"] == 5 and data.facts()["saliency"]
    (batch,) = data.val_dataloader()
    assert [len(spans) for spans in batch["spans"]] == [0, 0]
    for row, saliency, more, less in zip(
        batch["annotation"], batch["saliency"], batch["saliency_pos"], batch["saliency_neg"], strict=True
    ):
        expected = 12 * (np.mean(row["label"], 1) - 1) / 4
        assert saliency[: len(expected)].tolist() == pytest.approx(expected.tolist(), abs=1e-5)
        assert (saliency[more] > saliency[less]).all() and saliency[more[0]] == saliency.max()
        assert "relevant_windows" not in row and "relevant_clip_ids" not in row


def test_such_a_file_says_how_it_is_read(tmp_path):
    with pytest.raises(DataError, match=r"relevant_windows is None, .*is read with data.saliency=labels"):
        open_set(labelled(tmp_path), saliency="windows")
    with pytest.raises(DataError, match="no annotations of data.domain=C; it has A, B"):
        open_set(tmp_path, domain="C", **TVSUM)
    with pytest.raises(DataError, match=r"label of clip 0 is \[.*expected scores from 0 to 1"):
        open_set(tmp_path, saliency="labels")
    with pytest.raises(DataError, match="expected lowest < highest"):
        open_set(tmp_path, saliency="labels", labels={"lowest": 2, "highest": 2})
    np.savez(tmp_path / "slow" / "val2.npz", features=np.ones((16, 7)))
    with pytest.raises(DataError, match="stream slow does not fit 1 of 12 videos: vid val2: 16 rows for 8 labels"):
        open_set(tmp_path, **TVSUM)


def test_equal_labels_have_no_pair_to_compare():
    total, more, less = label_saliency([[3], [3], [3]], 4, LabelSettings(1, 5), np.random.default_rng(0))
    assert total.tolist() == [6, 6, 6, 0]
    total, more, less = label_saliency([[3], [3], [3]], 3, LabelSettings(1, 5), np.random.default_rng(0))
    assert more.tolist() == less.tolist() == [0, 0]


def test_a_test_file_without_labels_is_read_for_predictions(tmp_path):
    rows = read_lines(labelled(tmp_path) / "test.jsonl")
    keys = ("qid", "query", "vid", "duration")
    write_lines(tmp_path / "test.jsonl", [{key: row[key] for key in keys} for row in rows])
    write_features(tmp_path, rows, np.random.default_rng(0), clip_length=3.7)
    data = open_set(tmp_path, clip_length=3.7, **TVSUM)
    assert "saliency" not in next(iter(data.test_dataloader()))


def test_the_report_of_a_file_has_the_good_rows_and_every_defect(tmp_path):
    write_lines(tmp_path / "a.jsonl", [*bad_rows(), changed({"qid": 99}), changed({"qid": 98, "vid": 3})])
    found = read_annotations(tmp_path / "a.jsonl", Form(2.0), stop=False)
    assert [row["qid"] for row in found.rows] == [99] and len(found.found) == 7
