"""The report of run folders: what they did not save, what is damaged, how they become tables, and the command."""

import sys

import pytest

from datamodules.errors import DataError
from scripts.page import saved, write
from scripts.page.__main__ import main
from scripts.page.folders import tables_of
from tests.scripts.page_text import Seen, words
from tests.scripts.small_tables import row, run_folder, table


def test_what_a_run_did_not_save_is_said(tmp_path):
    runs = [run_folder(tmp_path, "audio_description", 0, {"exact": 1.0}, "per_layer", kept=False)]
    own = table("old", "audio_description", [row("masked", runs)], ["exact"])
    write([own], tmp_path / "report.html")
    shown = words(Seen((tmp_path / "report.html").read_text()))
    assert "masked: no heat maps. The numbers for them (analysis/layers.npz" in shown
    assert "How masks changed over training is not shown: no metrics.csv has their columns" in shown
    assert "No run has a metrics.csv" in shown and "No run has predictions/test.jsonl" in shown
    assert "0.25" in shown  # what results.json has of the masks


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("analysis/layers.npz", b"PK\x03\x04 half"),
        ("analysis/samples.npz", b""),
        ("metrics.csv", b"\xff\xfe\x00"),
        ("predictions/test.jsonl", b'{"ann_id": "a0"'),
    ],
)
def test_a_damaged_file_is_named_and_the_rest_is_shown(tmp_path, file, damage):
    runs = [run_folder(tmp_path, "audio_description", 0, {"exact": 61.25}, "per_layer")]
    (runs[0]["folder"] / file).write_bytes(damage)
    write([table("t", "audio_description", [row("masked", runs)], ["exact"])], tmp_path / "report.html")
    shown = words(Seen((tmp_path / "report.html").read_text()))
    assert str(runs[0]["folder"] / file) in shown and "61.25" in shown


def test_settings_are_compared_with_the_baseline_of_their_own_data(tmp_path):
    for fraction, plain, masked in ((0.1, 1.0, 2.0), (1.0, 10.0, 30.0)):
        data = {"name": "a set", "fraction": fraction}
        for scope, value in (("none", plain), ("shared", masked)):
            for seed in (0, 1):
                run_folder(tmp_path, "image_classification", seed, {"top1": value}, scope, data=data, kept=False)
    (own,) = tables_of([tmp_path], "")
    assert own.name == "image classification on a set" and own.baseline == ""
    found = [(one.row, one.against, one.differences) for one in own.contrasts]
    assert found == [
        (f"own_shared data.fraction={f}", f"own_none data.fraction={f}", [d, d]) for f, d in ((0.1, 1.0), (1.0, 20.0))
    ]


def test_run_folders_become_a_table_per_task(tmp_path):
    for seed in (0, 1):
        run_folder(tmp_path, "audio_description", seed, {"cider": 2.0, "exact": 1.0 + seed})
        run_folder(tmp_path, "audio_description", seed, {"cider": 2.0, "exact": 3.0}, "per_layer")
    run_folder(tmp_path, "moment_retrieval", 0, {"mAP": 3.0})
    run_folder(tmp_path, "moment_retrieval", 1, {"mAP": 3.0}, status="failed")
    first, second = tables_of([tmp_path], "the command")
    assert (first.task, first.primary, first.baseline) == ("audio_description", "exact", "own_none")
    assert [(one.label, sorted(one.runs)) for one in first.rows] == [("own_none", [0, 1]), ("own_per_layer", [0, 1])]
    assert first.floors == {"constant": {"cider": 1.0, "exact": 1.0}, "ceiling": {"cider": 90.0, "exact": 90.0}}
    assert [(one.row, one.metric, one.differences) for one in first.contrasts if one.metric == "exact"] == [
        ("own_per_layer", "exact", [2.0, 1.0])
    ]
    assert second.metrics == ["mAP"] and "failed" in " ".join(first.remarks) and second.contrasts == []
    assert tables_of([tmp_path], "", ["cider"])[0].primary == "cider"


def command(monkeypatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["page", *map(str, words)])
    main()


def test_the_command_writes_the_page_and_says_what_is_wrong(tmp_path, monkeypatch, capsys):
    logs, out, empty = tmp_path / "logs", tmp_path / "own.html", tmp_path / "empty"
    run_folder(logs, "moment_retrieval", 0, {"mAP": 31.75})
    empty.mkdir()
    command(monkeypatch, logs, "--out", out)
    assert capsys.readouterr().out.strip() == str(out) and "31.75" in out.read_text()
    for words_given, told in (
        ([tmp_path / "log"], f"{tmp_path}/log: there is no such folder; name one with run folders, such as logs"),
        ([empty], f"{empty}: no completed run"),
        ([logs, "--metrics", "map"], "no run has the metric 'map'; did you mean 'mAP'? (metrics: mAP)"),
        ([logs, "--out", logs], f"{logs} cannot be written: Is a directory"),
    ):
        with pytest.raises(SystemExit) as stopped:
            command(monkeypatch, *words_given)
        assert stopped.value.code == told
    with pytest.raises(ValueError, match="no table to show"):
        write([], out)


def test_a_file_of_predictions_that_is_no_json_is_an_error_of_one_line(tmp_path):
    (tmp_path / "predictions").mkdir()
    (tmp_path / "predictions" / "test.jsonl").write_text("[1]\n")
    with pytest.raises(DataError, match=r"test\.jsonl, line 1: needs a JSON object"):
        saved.predictions(tmp_path)
