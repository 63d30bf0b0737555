"""Moments in long recordings: what is heard in the windows, what is heard in which split, and that a run reads it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from configs.schema import validate
from datamodules.audio_description.mini.sounds import FRAME, FRONT_END, RATE
from datamodules.esc10 import SOUNDS
from datamodules.moment_retrieval.mini.generator import ANNOTATIONS
from scripts.make_sound_moments import CLAUSES, STEADY, coloured_noise, layout, looped, main
from tasks.common.build import build
from tests.datamodules.small_esc10 import write_esc10
from tests.tiers import slow

FEW = ("--recordings", "8", "1", "2", "--kinds", "2", "--seconds", "20", "25")


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    return write_esc10(tmp_path_factory.mktemp("esc10"))


@pytest.fixture(scope="module")
def made(clips, tmp_path_factory) -> Path:
    """Loud clips in coloured noise; do not write here."""
    folder = tmp_path_factory.mktemp("made") / "moments"
    main([str(clips), str(folder), *FEW, "--steady", "0", "--snr", "20", "20"])
    return folder


def rows_of(folder: Path, split: str) -> list[dict]:
    return [json.loads(line) for line in (folder / ANNOTATIONS[split]).read_text().splitlines()]


def kind_of(row: dict) -> str:
    (kind,) = [name for name, clauses in CLAUSES.items() if any(row["query"].endswith(clause) for clause in clauses)]
    return kind


def test_a_window_is_where_the_sound_that_the_query_names_is_heard(made):
    """Each class is a tone of its own frequency, so its band is loud in its windows and nowhere else."""
    filters, hits, misses = FRONT_END.filters, [], []
    for row in rows_of(made, "train"):
        hertz = 300 + 300 * list(SOUNDS).index(kind_of(row))
        band = int(filters[round(hertz * FRAME / RATE)].argmax())
        loud = np.load(made / "clip_features" / f"{row['vid']}.npz")["features"][:, band]  # the band's mean
        inside = np.zeros(len(loud), bool)
        inside[row["relevant_clip_ids"]] = True
        assert row["duration"] == len(loud) and 20 <= len(loud) <= 25
        assert [clip for a, b in row["relevant_windows"] for clip in range(int(a), int(b))] == row["relevant_clip_ids"]
        hits.append(loud[inside].mean() - loud[~inside].mean())
        misses.append((loud[~inside] > loud[inside].min()).mean())
        assert np.array(row["saliency_scores"]).mean() > 3  # 20 dB above the noise
    assert min(hits) > 0.5 and np.mean(misses) < 0.1


def test_the_same_arguments_give_the_same_bytes_and_no_recording_is_in_two_splits(clips, made, tmp_path):
    main([str(clips), str(tmp_path / "again"), *FEW, "--steady", "0", "--snr", "20", "20"])
    for path in sorted(made.rglob("*.npz")) + [made / name for name in (*ANNOTATIONS.values(), "meta.json")]:
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(made)).read_bytes(), path
    used = json.loads((made / "meta.json").read_text())["clips"]
    ids = {split: {name.split("-")[1] for name in names} for split, names in used.items()}
    assert not (ids["train"] & ids["val"] or ids["test"] & (ids["train"] | ids["val"]))
    assert not {row["vid"] for row in rows_of(made, "train")} & {row["vid"] for row in rows_of(made, "test")}


def test_a_steady_sound_behind_a_recording_is_not_asked_for(clips, tmp_path):
    main(
        [
            str(clips),
            str(tmp_path / "out"),
            "--recordings",
            "4",
            "1",
            "1",
            "--kinds",
            "9",
            "--queries",
            "9",
            "--steady",
            "1",
        ]
    )
    rows = rows_of(tmp_path / "out", "train")
    asked = [{kind_of(row) for row in rows if row["vid"] == vid} for vid in {row["vid"] for row in rows}]
    assert all(set(STEADY) - kinds for kinds in asked)


@pytest.mark.parametrize("scale", ["mini", slow("smoke")])
def test_data_sound_moments_reads_it(made, compose_run, scale):
    root = [f"data.root={made}"] if scale == "mini" else []  # smoke generates videos in the same files
    cfg = compose_run("experiment=qvhighlights_baseline", "data=sound_moments", f"scale={scale}", *root)
    validate(cfg)
    assert cfg.task.lr == 2e-3 and cfg.mask.lr_scale == 1.0
    data = build(cfg.data)
    data.prepare_data()
    data.setup()
    batch = next(iter(data.train_dataloader()))
    assert batch["video"].shape[2] == data.facts()["video_dim"] == 64 + 2 + 72 * (scale == "smoke")
    if scale == "mini":
        assert data.facts()["clips"] == 60 and data.oracle() is None
        assert all(len(span) for span in batch["spans"]) and batch["saliency"].max() > 6


def test_missing_recordings_name_the_command_that_makes_them(compose_run, tmp_path):
    cfg = compose_run("experiment=qvhighlights_baseline", "data=sound_moments", "scale=mini", f"data.root={tmp_path}")
    with pytest.raises(
        ValueError, match=r"`python -m scripts.make_sound_moments path/to/esc10 .*` makes them"
    ) as caught:
        build(cfg.data).prepare_data()
    assert "generated data" not in str(caught.value)


def test_events_fit_with_a_clip_between_them_and_loops_have_no_gap():
    rng = np.random.default_rng(0)
    for _ in range(50):
        lengths = rng.integers(1, 6, 4).tolist()
        first = layout(lengths, sum(lengths) + 3 + int(rng.integers(4)), rng)
        ends = np.add(first, lengths)
        assert first[0] >= 0 and (np.asarray(first[1:]) > ends[:-1]).all()
    np.testing.assert_allclose(looped(np.ones(3000, np.float32), 20000), 1.0, atol=1e-5)
    noise = coloured_noise(8000, rng)
    assert noise.std() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    "words, message",
    [
        (["--kinds", "10"], "--kinds 10: must be 1 to 9"),
        (["--seconds", "60", "30"], "--seconds 60 30: must be at least 20, the smaller one first"),
        (["--recordings", "0", "1", "1"], "--recordings and --queries must be at least 1"),
        (["--snr", "3", "1"], "--snr: the smaller one first"),
    ],
)
def test_wrong_arguments_are_refused(words, message, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["esc10", str(tmp_path / "out"), *words])
    assert message in capsys.readouterr().err


def test_what_cannot_be_made_is_one_line_and_leaves_nothing(clips, tmp_path):
    broken = Path(shutil.copytree(clips, tmp_path / "copy"))
    (broken / "rooster" / "1-8000-A.wav").write_bytes(b"RIFF")
    with pytest.raises(SystemExit, match="1-8000-A.wav cannot be decoded") as caught:
        main([str(broken), str(tmp_path / "out"), *FEW])
    assert "\n" not in str(caught.value) and {path.name for path in tmp_path.iterdir()} == {"copy"}
    with pytest.raises(SystemExit, match="copy is there already; name another folder"):
        main([str(clips), str(broken)])
