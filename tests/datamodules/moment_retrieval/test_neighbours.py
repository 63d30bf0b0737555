"""The configurations of the data sets beside QVHighlights read files in the layouts that people have."""

import json
from pathlib import Path

import numpy as np
import pytest
from hydra.utils import get_class
from omegaconf import OmegaConf

from datamodules.errors import DataError
from datamodules.moment_retrieval import fake
from tasks.common.build import build
from tests.composing import CONFIGS

LAYOUTS = {  # data -> a file of its annotations, of a video and of a query, below data.root
    "charades_sta": ("charades_sta_test_tvr_format.jsonl", "slowfast_features/{}.npz", "clip_text_features/qid{}.npz"),
    "charades_sta_lighthouse": (
        "data/charades/charades_test_release.jsonl", "features/charades/slowfast/{}.npz",
        "features/charades/clip_text/qid{}.npz",
    ),
    "tacos": ("test.jsonl", "clip_features/{}.npz", "clip_text_features/{}.npz"),
    "tacos_lighthouse": (
        "data/tacos/tacos_test_release.jsonl", "features/tacos/clip/{}.npz", "features/tacos/clip_text/{}.npz"
    ),
    "activitynet_captions": (
        "data/activitynet/activitynet_val_release.jsonl", "features/activitynet/clip/{}.npz",
        "features/activitynet/clip_text/qid{}.npz",
    ),
    "tvsum": ("tvsum_val.jsonl", "video_features/{}_opt.npy", "query_features/{}.npz"),
    "tvsum_lighthouse": (
        "data/tvsum/tvsum_val_release.jsonl", "features/tvsum/i3d/{}_rgb.npy", "features/tvsum/clip_text/{}.npz"
    ),
    "youtube_highlights": ("youtube_valid.jsonl", "vid_slowfast/{}.npz", "txt_clip/{}.npz"),
    "youtube_highlights_lighthouse": (
        "data/youtube_highlight/youtube_highlight_val_release.jsonl", "features/youtube_highlight/clip/{}.npz",
        "features/youtube_highlight/clip_text/{}.npz",
    ),
    "clotho_moment": (
        "data/clotho_moment/clotho_moment_test_release.jsonl", "features/clotho-moment/clap/{}.npz",
        "features/clotho-moment/clap_text/qid{}.npz",
    ),
    "qvhighlights_lighthouse": (
        "data/qvhighlight/qvhighlight_val_release.jsonl", "features/qvhighlight/slowfast/{}.npz",
        "features/qvhighlight/clip_text/qid{}.npz",
    ),
}  # fmt: skip
FEW = ["data.batch_size=2", "data.eval_batch_size=2", "data.num_workers=0", "data.max_clips=12"]


def chosen(compose_run, name, tmp_path, *more):
    return compose_run(f"data={name}", "task=moment_retrieval", f"data.root={tmp_path}", *FEW, *more)


def parents(name):
    """The configurations that one is made of."""
    own = [other for other in OmegaConf.load(CONFIGS / "data" / f"{name}.yaml").get("defaults", []) if other in NAMES]
    return {other for parent in own for other in (parent, *parents(parent))}


NAMES = {path.stem for path in (CONFIGS / "data").glob("*.yaml")}


def test_every_such_configuration_is_among_them():
    assert {name for name in NAMES if "qvhighlights" in parents(name)} == {
        *LAYOUTS,
        "sound_moments",
        "clip_moments",
        "qvhighlights_clip",
    }


@pytest.mark.parametrize("name", LAYOUTS)
def test_files_in_the_layout_are_read(compose_run, tmp_path, name):
    cfg = chosen(compose_run, name, tmp_path)
    fake.write(tmp_path, OmegaConf.to_container(cfg.data, resolve=True))
    annotations, video, query = (tmp_path / part for part in LAYOUTS[name])
    row = json.loads(annotations.read_text().splitlines()[0])
    assert Path(str(video).format(row["vid"])).is_file() and Path(str(query).format(row["qid"])).is_file()
    data = build(cfg.data)
    data.prepare_data()
    data.setup()
    batch = next(iter(data.test_dataloader()))
    assert batch["video"].shape == (2, 12, data.facts()["video_dim"]) and batch["saliency"].shape == (2, 12)
    assert [len(spans) for spans in batch["spans"]] == [0 if "highlights" in data.facts() else 1] * 2


def test_features_at_lighthouse_s_rate_do_not_pass_as_those_of_another(compose_run, tmp_path):
    cfg = chosen(compose_run, "charades_sta", tmp_path)
    plain = OmegaConf.to_container(cfg.data, resolve=True)
    fake.write(tmp_path, {**plain, "clip_length": 2.0})  # 12 rows for 24 s
    with pytest.raises(DataError, match=r"Charades-STA: stream slowfast_features .* 2 s per row would fit"):
        build(cfg.data).prepare_data()


@pytest.mark.parametrize("experiment", ["charades_sta_multi_lcaam", "tvsum_lcaam", "clotho_moment_baseline"])
def test_the_small_scales_read_generated_data(compose_run, experiment):
    cfg = compose_run(f"experiment={experiment}", "scale=smoke")
    data = build(cfg.data)
    data.prepare_data()
    data.setup()
    assert next(iter(data.train_dataloader()))["video"].shape[-1] == data.facts()["video_dim"] == 72 + 64 + 2
    assert get_class(cfg.task._target_) and cfg.paper == {} and cfg.paper_data == cfg.data.name


def test_paper_figures_of_qvhighlights_are_not_shown_beside_other_data(compose_run):
    from tasks.common.published import published

    assert published(compose_run("experiment=qvhighlights_baseline"))
    for words in (["experiment=qvhighlights_baseline", "data=tacos"], ["experiment=tacos_baseline"]):
        assert published(compose_run(*words)) == {}


def test_a_label_per_clip_is_compared_with_rows_whatever_the_frame_rate(compose_run, tmp_path):
    """YouTube Highlights' clips begin every 50 frames: 1.7 s at 30 frames per second, 3.3 s at 15."""
    cfg = chosen(compose_run, "youtube_highlights", tmp_path)
    fake.write(tmp_path, OmegaConf.to_container(cfg.data, resolve=True))
    path = tmp_path / "youtube_valid.jsonl"
    rows = [json.loads(line) | {"duration": 12 * 3.3} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    build(cfg.data).prepare_data()
    np.savez(tmp_path / "vid_clip" / f"{rows[0]['vid']}.npz", features=np.ones((24, 512), np.float32))
    with pytest.raises(DataError, match="stream clip_features does not fit 1 of .* 24 rows for 12 labels"):
        build(cfg.data).prepare_data()
