"""The mini moments: same seed, same bytes; splits that share nothing; annotations that agree with the streams."""

import hashlib
import json
from dataclasses import asdict

import numpy as np
import pytest
import torch

from datamodules.errors import DataError
from datamodules.mini.digits import WORDS, digit_images
from datamodules.moment_retrieval import Moments
from datamodules.moment_retrieval.mini.generator import ANNOTATIONS, FAINTEST, MiniSettings, make_queries, write_mini
from datamodules.moment_retrieval.mini.queries import Words, ask
from datamodules.moment_retrieval.mini.stripes import MOTIONS, SPECTRUM, stripes
from datamodules.packed import PackedFeatures, packed_path
from tests.datamodules.moment_retrieval.small import read_lines
from tests.parity import QVHIGHLIGHTS, needs_qvhighlights

SETTINGS = {
    "train_videos": 10, "val_videos": 2, "test_videos": 5, "queries": 4, "min_clips": 16, "max_clips": 32,
    "min_shot": 2, "max_shot": 6, "digits": 3, "motions": 3, "plain": 0.3, "picture_noise": 0.6, "motion_noise": 1.2,
    "text_noise": 0.3, "rater_noise": 0.5,
}  # fmt: skip
CLEAN = {"picture_noise": 0.0, "motion_noise": 0.0, "text_noise": 0.0, "rater_noise": 0.0}
KEYWORDS = {
    **{f"{split}_annotations": name for split, name in ANNOTATIONS.items()},
    "video_streams": {"slowfast_features": {"dim": SPECTRUM}, "clip_features": {"dim": 64}},
    "text_stream": {"dim": 48},
    "batch_size": 8,
    "eval_batch_size": 16,
    "max_clips": 32,
}
STREAMS = ("slowfast_features", "clip_features", "clip_text_features")


def generate(root, seed=0, **changes):
    return write_mini(root, MiniSettings(**{**SETTINGS, **changes}), seed=seed)


def all_hashes(folder):
    """What every file of a set holds, by its path in it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    return generate(tmp_path_factory.mktemp("mini"))


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """Without noise: what is said can be read off the streams."""
    return generate(tmp_path_factory.mktemp("clean"), **CLEAN)


def annotations(folder):
    return {split: read_lines(folder / name) for split, name in ANNOTATIONS.items()}


def test_same_seed_same_bytes_other_seed_other_bytes(pristine, tmp_path):
    again, other = generate(tmp_path / "a"), generate(tmp_path / "b", seed=1)
    assert all_hashes(again) == all_hashes(pristine)
    theirs = all_hashes(other)
    common = {name for name in theirs if name in all_hashes(pristine) and name.endswith(("npy", "jsonl"))}
    assert len(common) >= 7 and all(theirs[name] != all_hashes(pristine)[name] for name in common)


def test_an_existing_set_is_used_again(pristine):
    before = {path: path.stat().st_mtime_ns for path in pristine.iterdir()}
    assert generate(pristine.parent) == pristine
    assert {path: path.stat().st_mtime_ns for path in pristine.iterdir()} == before


@pytest.mark.parametrize("change", [{"picture_noise": 0.61}, {"seed": 1}, {"plain": 0.4}])
def test_other_settings_get_another_folder(pristine, change):
    assert generate(pristine.parent, **change) != pristine


def test_files_are_the_official_ones(pristine):
    rows = [row for split in annotations(pristine).values() for row in split]
    assert len({row["qid"] for row in rows}) == len(rows)
    for row in rows:
        assert list(row) == [
            "qid", "query", "duration", "vid", "relevant_clip_ids", "saliency_scores", "relevant_windows"
        ]  # fmt: skip
        for stream, width in (("slowfast_features", SPECTRUM), ("clip_features", 64)):
            values = np.load(pristine / stream / f"{row['vid']}.npz")["features"]
            assert values.shape == (row["duration"] // 2, width) and values.dtype == np.float32
        text = np.load(pristine / "clip_text_features" / f"qid{row['qid']}.npz")
        assert text["last_hidden_state"].shape == (len(row["query"].split()) + 2, 48)
        assert text["pooler_output"].shape == (48,)
        clips = [c for a, b in row["relevant_windows"] for c in range(a // 2, b // 2)]
        assert row["relevant_clip_ids"] == clips and all(len(s) == 3 for s in row["saliency_scores"])
        assert all(score in (0, 1, 2, 3, 4) for scores in row["saliency_scores"] for score in scores)
        gaps = [a - b for (_, b), (a, _) in zip(row["relevant_windows"], row["relevant_windows"][1:], strict=False)]
        assert all(gap > 0 for gap in gaps)  # windows that touch are one


def test_packed_streams_equal_the_files(pristine):
    for stream in STREAMS:
        packed = PackedFeatures(packed_path(pristine / stream))
        files = list((pristine / stream).iterdir())
        assert set(packed.ids) == {file.stem for file in files} and len(files) > 10
        for file in files:
            with np.load(file) as arrays:
                assert packed.read(file.stem).tobytes() == next(iter(arrays.values())).tobytes()


def test_no_video_and_no_image_is_in_two_splits(pristine):
    vids = {split: {row["vid"] for row in rows} for split, rows in annotations(pristine).items()}
    assert {split: len(names) for split, names in vids.items()} == {"train": 10, "val": 2, "test": 5}
    assert len(set.union(*vids.values())) == 17
    images = [set(found) for found in json.loads((pristine / "meta.json").read_text())["images"].values()]
    assert sum(map(len, images)) == len(set.union(*images)) == 1797


def spoken(sentence: str) -> tuple[int, str | None]:
    """Digit and motion that a sentence names, by its words alone."""
    words = sentence.split()
    digits = [i for i, name in enumerate(WORDS) if name in words] + [int(word) for word in words if word.isdigit()]
    motion = {"left": "left", "right": "right", "flicker": "flicker", "flickers": "flicker", "blink": "flicker",
              "still": "still", "rests": "still", "not": "still"}  # fmt: skip
    motions = [motion[word] for word in words if word in motion]
    assert len(digits) == 1 and len(motions) <= 1, sentence
    return digits[0], motions[0] if motions else None


def moving(spectrum: np.ndarray) -> str:
    """The motion in a clean spectrum (9 temporal x 8 spatial frequencies), by which of them are loud.

    sin(kx + wt) has its energy at two frequencies of the same sign, sin(kx - wt) at two of opposite signs.
    """
    loud = set(np.flatnonzero(spectrum > spectrum.max() - 1).tolist())
    names = {(2 * 8 + 2,): "left", (2 * 8 + 6,): "right", (2 * 8 + 2, 2 * 8 + 6): "flicker", (2, 6): "still"}
    return names[tuple(sorted(loud))]


def test_windows_are_where_the_clean_streams_show_what_the_query_names(clean):
    """The nearest image of the split and the loud frequencies say what every clip shows, clip by clip."""
    plain = 0
    for split, rows in annotations(clean).items():
        pixels, labels = digit_images(split, 0)
        pixels = pixels.reshape(len(pixels), -1)
        pixels = pixels / np.linalg.norm(pixels, axis=1, keepdims=True)
        for row in rows:
            pictures = np.load(clean / "clip_features" / f"{row['vid']}.npz")["features"]
            motions = np.load(clean / "slowfast_features" / f"{row['vid']}.npz")["features"]
            shown = labels[(pictures @ pixels.T).argmax(1)]
            digit, motion = spoken(row["query"])
            plain += motion is None
            fits = [
                clip
                for clip in range(len(pictures))
                if shown[clip] == digit and (motion is None or moving(motions[clip]) == motion)
            ]
            assert row["relevant_clip_ids"] == fits and fits
    assert plain >= 5


def test_scores_follow_how_clearly_the_digit_is_seen(clean):
    for row in annotations(clean)["train"]:
        pictures = np.load(clean / "clip_features" / f"{row['vid']}.npz")["features"]
        assert max(max(scores) for scores in row["saliency_scores"]) == 4
        for start, end in row["relevant_windows"]:
            contrast, scores = {}, {}
            for clip in range(start // 2, end // 2):
                given = row["saliency_scores"][row["relevant_clip_ids"].index(clip)]
                assert len(set(given)) == 1  # raters without noise agree
                key = tuple((pictures[clip] / pictures[clip].max()).round(2))  # the shot's image
                contrast.setdefault(key, []).append(pictures[clip].max())
                scores.setdefault(key, []).append(given[0])
            for key, seen in contrast.items():
                order = np.argsort(seen)
                assert (np.diff(np.array(scores[key])[order]) >= 0).all()


def test_raters_differ_and_every_shot_is_seen_clearly_once(pristine):
    scores = [s for row in annotations(pristine)["train"] for s in row["saliency_scores"]]
    assert any(len(set(given)) > 1 for given in scores)
    assert {score for given in scores for score in given} == {0, 1, 2, 3, 4}
    for query in make_queries(MiniSettings(**SETTINGS), 0)["train"]:
        for first, end in query.video.shots[:, :2]:
            shot = query.video.contrast[first:end]
            assert shot.max() >= 0.95 and shot.min() >= FAINTEST


def test_a_video_has_many_shots_and_most_clips_are_distractors(pristine):
    rows = annotations(pristine)["train"]
    share = [len(row["relevant_clip_ids"]) / (row["duration"] / 2) for row in rows]
    assert np.mean(share) < 0.35
    assert {len(row["relevant_windows"]) for row in rows} >= {1, 2}
    assert len({row["duration"] for row in rows}) > 3
    starts = [start / row["duration"] for row in rows for start, _ in row["relevant_windows"]]
    assert (np.histogram(starts, 4, (0, 1))[0] > 0).all()


def test_queries_are_said_in_many_ways_and_lengths():
    rng = np.random.default_rng(0)
    said = [" ".join(ask(7, "left", rng)) for _ in range(300)]
    assert len(set(said)) > 50 and len({len(s.split()) for s in said}) >= 5
    assert all(spoken(sentence) == (7, "left") for sentence in said)
    for digit in range(10):
        for motion in (None, *MOTIONS):
            assert spoken(" ".join(ask(digit, motion, rng))) == (digit, motion)


def test_a_word_has_one_vector_and_noise_on_top():
    words, rng = Words(48, 0), np.random.default_rng(0)
    one, other = words.features(["seven", "left"], 0.0, rng), Words(48, 0).features(["seven", "right"], 0.0, rng)
    assert one.shape == (4, 48) and np.array_equal(one[1], other[1]) and not np.allclose(one[2], other[2])
    noisy = np.stack([words.features(["seven"], 0.5, rng)[1] for _ in range(200)])
    assert noisy.std(0).mean() == pytest.approx(0.5, rel=0.1)
    assert not np.allclose(Words(48, 1).vector("seven"), words.vector("seven"))


def test_noise_hides_the_motion():
    rng = np.random.default_rng(0)
    assert [moving(row) for row in stripes(np.arange(4), 0.0, rng)] == list(MOTIONS)
    assert stripes(np.arange(4), 0.0, rng).shape == (4, 72) and len(MOTIONS) == 4


# Through the datamodule


def open_mini(root, **changes):
    return Moments(**{**KEYWORDS, "root": str(root), "mini": SETTINGS, **changes})


def test_facts_and_oracle_after_prepare_data_alone(tmp_path):
    data = open_mini(tmp_path)
    data.prepare_data()
    assert data.facts() == {
        "video_dim": 138, "text_dim": 48, "clips": 32, "tokens": 32, "clip_length": 2.0, "duration": 64.0,
        "saliency": True, "streams": {"slowfast_features": 72, "clip_features": 64}, "tef": True,
    }  # fmt: skip
    rows = data.annotations("test")
    assert set(data.oracle()) == {row["qid"] for row in rows}
    for row in rows:
        found = data.oracle()[row["qid"]]
        assert len(found["pred_saliency_scores"]) == row["duration"] / 2
        scores = [score for _, _, score in found["pred_relevant_windows"]]
        assert 1 <= len(scores) <= 10 and scores == sorted(scores, reverse=True)
        assert all(0 <= a < b <= row["duration"] for a, b, _ in found["pred_relevant_windows"])


def test_the_streams_alone_have_no_ceiling_and_real_data_has_none(pristine, tmp_path):
    for stream in ("slowfast_features", "clip_features"):
        streams = {**KEYWORDS["video_streams"], stream: None}
        data = open_mini(pristine.parent, video_streams=streams)
        data.prepare_data()
        assert data.oracle() is None
    data = open_mini(pristine, mini=None)
    data.prepare_data()
    assert data.oracle() is None


def test_the_oracle_reads_clean_videos_and_misses_some_noisy_ones(clean, pristine):
    """Its first window is one of the query's: nearly always without noise (handwriting stays), mostly with it."""

    def right(folder):
        truth = {row["qid"]: row["relevant_windows"] for row in annotations(folder)["test"]}
        read = read_lines(folder / "oracle.jsonl")
        assert len(read) == len(truth) >= 15
        return np.mean([row["pred_relevant_windows"][0][:2] in truth[row["qid"]] for row in read])

    assert right(clean) >= 0.9
    assert right(pristine) > 0.5


def test_batches_are_the_packed_rows(pristine):
    data = open_mini(pristine.parent)
    data.setup()
    batch = next(iter(data.test_dataloader()))
    row, first = batch["annotation"][0], batch["video"][0]
    parts = [np.load(pristine / name / f"{row['vid']}.npz")["features"] for name in STREAMS[:2]]
    joined = np.concatenate([part / (np.linalg.norm(part, axis=1, keepdims=True) + 1e-5) for part in parts], axis=1)
    assert torch.allclose(first[: len(joined), :136], torch.from_numpy(joined), atol=1e-6)


def test_another_width_than_the_generated_one_is_named(tmp_path):
    data = open_mini(tmp_path, text_stream={"dim": 512})
    data.prepare_data()
    with pytest.raises(
        DataError, match=r"shape \(\d+, 48\), expected \(rows, 512\). Set the dim of stream text_stream"
    ):
        data.setup()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"min_shot": 7}, "needs 1 <= min_shot <= max_shot < min_clips <= max_clips; given min_shot=7"),
        ({"max_shot": 16}, "max_shot < min_clips"),
        ({"min_clips": 33}, "min_clips <= max_clips"),
        ({"digits": 1}, "digits=1 must be in 2..10"),
        ({"motions": 5}, "motions=5 in 2..4"),
        ({"plain": 1.5}, "plain=1.5 is a share"),
        ({"test_videos": 0}, "at least one video in each split"),
        ({"queries": 0}, "one query per video"),
        ({"rater_noise": -1.0}, "rater_noise=-1.0 is a standard deviation"),
    ],
)
def test_impossible_videos_are_refused(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        generate(tmp_path, **change)
    assert not list(tmp_path.iterdir())


def test_unknown_and_missing_settings_are_named(tmp_path):
    with pytest.raises(DataError, match="unknown setting 'digit'. Did you mean 'digits'"):
        open_mini(tmp_path, mini={**SETTINGS, "digit": 3})
    with pytest.raises(DataError, match="missing settings rater_noise"):
        open_mini(tmp_path, mini={key: value for key, value in SETTINGS.items() if key != "rater_noise"})


def test_the_least_set_is_written(tmp_path):
    for seed in range(3):
        least = {"train_videos": 1, "val_videos": 1, "test_videos": 1, "queries": 1, "digits": 2, "motions": 2}
        folder = generate(tmp_path, seed=seed, **least, min_clips=2, max_clips=2, min_shot=1, max_shot=1)
        assert [len(rows) for rows in annotations(folder).values()] == [1, 1, 1]
    assert asdict(MiniSettings(**SETTINGS)) == SETTINGS


@needs_qvhighlights
def test_the_rows_have_the_keys_and_types_of_the_real_ones(pristine):
    for name in ANNOTATIONS.values():
        real, ours = read_lines(QVHIGHLIGHTS / name)[0], read_lines(pristine / name)[0]
        assert {key: type(value) for key, value in ours.items()} == {key: type(value) for key, value in real.items()}
