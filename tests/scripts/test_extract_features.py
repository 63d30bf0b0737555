"""Extracting features: the backbone's grid of the central square, complete files or none, resumed, failures listed."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models.video import swin3d_t
from transformers import VideoMAEConfig, VideoMAEForVideoClassification, VideoMAEModel

from datamodules.video_captioning.captions import Clip
from datamodules.video_captioning.clips import Pixels
from datamodules.video_captioning.feature_files import write_features
from datamodules.video_captioning.sources import VideoFiles
from datamodules.video_captioning.transforms import cut
from datamodules.video_captioning.video import read_video
from scripts import extract_features
from scripts.extract_features import main
from scripts.extract_frames import main as extract_frames
from scripts.feature_models import MEAN, STD, FeatureModel
from tasks.common.clip_extractor import ClipExtractor
from tests.datamodules.video_captioning.small import footage, open_set, write_json, write_video
from tests.programs import started
from tests.tasks.moment_retrieval.small_clip import write_clip

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    "--frames",
    "4",
    "--image-size",
    "32",
    "--workers",
    "0",
    "--device",
    "cpu",
    "--batch-size",
    "2",
    "--size",
    "tiny",
)


class Means(torch.nn.Module):
    """A backbone of two tokens: mean and largest value of each channel."""

    def forward(self, frames):
        pixels = frames.transpose(1, 2).flatten(2)  # (B, 3, F * S * S)
        return torch.stack([pixels.mean(2), pixels.amax(2)], dim=1)


@pytest.fixture
def videos(tmp_path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    for i in range(5):
        write_video(folder / f"v{i}.mp4", footage(i, height=40, width=56))
    return folder


@pytest.fixture
def means(monkeypatch):
    monkeypatch.setattr(extract_features, "build", lambda chosen, source: of(Means(), chosen, source))


def of(net: torch.nn.Module, chosen, source) -> FeatureModel:
    """A model of two times and one place, in place of a Video Swin."""
    pixels = Pixels(source, chosen.frames, chosen.image_size, chosen.image_size, MEAN, STD)
    return FeatureModel(net, pixels, chosen.frames, 2, "")


def arrays(folder: Path) -> dict[str, np.ndarray]:
    return {path.stem: np.load(path) for path in folder.glob("*.npy")}


def test_features_are_the_backbones_on_the_normalised_central_square(videos, tmp_path, means):
    main([str(videos), str(tmp_path / "out"), *SMALL])
    found = arrays(tmp_path / "out")
    assert sorted(found) == [f"v{i}" for i in range(5)]
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    for name, grid in found.items():
        pixels = (cut(read_video(videos / f"{name}.mp4", 4), 32, 32, None) / 255 - mean) / std
        expected = torch.stack([pixels.mean((0, 2, 3)), pixels.amax((0, 2, 3))])
        assert grid.shape == (2, 3) and grid.dtype == np.float16
        assert np.allclose(grid, expected, atol=2e-3)


def test_swin_features_are_torchvisions(videos, tmp_path):
    """The whole script, with a file of weights, against torchvision's model."""
    torch.manual_seed(0)
    model = swin3d_t().eval()
    torch.save(model.state_dict(), tmp_path / "swin.pth")
    for path in sorted(videos.iterdir())[1:]:
        path.unlink()
    main([str(videos), str(tmp_path / "out"), *SMALL, "--weights", str(tmp_path / "swin.pth")])
    frames = Pixels(VideoFiles(videos, "{video}.*"), 4, 32, 32, MEAN, STD)
    clip = frames.batch([frames.read(Clip("v0", "v0", ()), None)])
    with torch.no_grad():
        grid = model.norm(model.features(model.pos_drop(model.patch_embed(clip.transpose(1, 2)))))  # (1, 2, 1, 1, 768)
    assert np.allclose(arrays(tmp_path / "out")["v0"], grid.reshape(2, 768), atol=5e-3)


def test_frame_folders_serve_as_well(videos, tmp_path, means):
    extract_frames([str(videos), str(tmp_path / "frames"), "--frames", "4", "--short-side", "0", "--workers", "1"])
    main([str(videos), str(tmp_path / "a"), *SMALL])
    main([str(tmp_path / "frames"), str(tmp_path / "b"), *SMALL])
    a, b = arrays(tmp_path / "a"), arrays(tmp_path / "b")
    assert a.keys() == b.keys() and all(np.allclose(a[name][0], b[name][0], atol=0.05) for name in a)


def test_files_that_are_there_are_skipped_and_failures_are_listed(videos, tmp_path, means, capsys):
    out = tmp_path / "out"
    good = (videos / "v3.mp4").read_bytes()
    (videos / "v3.mp4").write_bytes(good[:300])
    with pytest.raises(SystemExit, match="1 clips failed"):
        main([str(videos), str(out), *SMALL])
    assert "4 clips extracted, 0 were there, 1 failed" in capsys.readouterr().out
    assert (out / "failures.txt").read_text().startswith("v3\t") and "v3" not in arrays(out)
    (videos / "v3.mp4").write_bytes(good)
    main([str(videos), str(out), *SMALL])
    assert "1 clips extracted, 4 were there, 0 failed" in capsys.readouterr().out
    assert not (out / "failures.txt").exists() and len(arrays(out)) == 5


def test_other_settings_are_refused(videos, tmp_path, means):
    main([str(videos), str(tmp_path / "out"), *SMALL])
    with pytest.raises(SystemExit, match="begun with other settings: frames 4 \\(now 8\\)"):
        main([str(videos), str(tmp_path / "out"), *SMALL, "--frames", "8"])


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])
def test_numbers_that_float16_cannot_hold_are_a_failure(tmp_path, videos, monkeypatch, value):
    class Bad(torch.nn.Module):
        def forward(self, frames):
            return torch.full((len(frames), 2, 3), value)

    monkeypatch.setattr(extract_features, "build", lambda chosen, source: of(Bad(), chosen, source))
    with pytest.raises(SystemExit, match="5 clips failed"):
        main([str(videos), str(tmp_path / "out"), *SMALL])
    assert not arrays(tmp_path / "out")


def test_a_file_is_complete_or_absent(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "replace", lambda self, target: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_features(tmp_path, "v", np.ones((2, 3)))
    assert not list(tmp_path.iterdir())


def test_unknown_weights_are_said(videos, tmp_path):
    places = (str(videos), str(tmp_path / "out"))
    done = started("-m", "scripts.extract_features", *places, *SMALL, "--weights", "KINETICS40_V1")
    assert done.returncode == 1 and "KINETICS400_V1" in done.stderr and "Traceback" not in done.stderr


# -- other models -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "small")


@pytest.fixture(scope="module")
def videomae_folder(tmp_path_factory) -> Path:
    """A small, untrained VideoMAE with a head, as fine-tuned ones are saved: 4 frames, 2 x 2 x 2 tokens of 32."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    config = VideoMAEConfig(image_size=32, patch_size=16, num_frames=4, tubelet_size=2, **sizes)
    folder = tmp_path_factory.mktemp("videomae")
    VideoMAEForVideoClassification(config).save_pretrained(folder)
    told = {"image_processor_type": "VideoMAEImageProcessor", "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(told))
    return folder


OTHERS = ("--workers", "0", "--device", "cpu", "--batch-size", "2")


def test_clip_gives_a_row_per_frame_the_ones_that_moments_are_found_with(videos, tmp_path, clip_folder):
    main(
        [str(videos), str(tmp_path / "out"), *OTHERS, "--model", "clip", "--weights", str(clip_folder), "--frames", "3"]
    )
    clip = ClipExtractor.load(clip_folder)
    found = arrays(tmp_path / "out")
    assert sorted(found) == [f"v{i}" for i in range(5)]
    for name, rows in found.items():
        expected = clip.rows(iter(read_video(videos / f"{name}.mp4", 3)))
        assert rows.shape == (3, clip.video_dim)
        assert np.allclose(rows, expected, atol=5e-3 * np.abs(expected).max())


def test_videomae_gives_its_last_hidden_states(videos, tmp_path, videomae_folder):
    options = [str(videos), str(tmp_path / "out"), *OTHERS, "--model", "videomae", "--weights", str(videomae_folder)]
    main(options)
    model = VideoMAEModel.from_pretrained(videomae_folder).eval()
    for name, rows in arrays(tmp_path / "out").items():
        pixels = (cut(read_video(videos / f"{name}.mp4", 4), 32, 32, None) / 255 - 0.5) / 0.25
        with torch.no_grad():
            expected = model(pixel_values=pixels[None]).last_hidden_state[0].numpy()
        assert rows.shape == (8, 32)
        assert np.allclose(rows, expected, atol=5e-3)
    main([*options[:1], str(tmp_path / "pooled"), *options[2:], "--pool", "places"])
    whole, pooled = arrays(tmp_path / "out"), arrays(tmp_path / "pooled")
    for name in whole:  # 2 times x 4 places
        assert np.allclose(pooled[name], whole[name].astype(np.float32).reshape(2, 4, 32).mean(1), atol=5e-3)
    with pytest.raises(SystemExit, match="begun with other settings: pool none \\(now places\\)"):
        main([*options, "--pool", "places"])


def test_a_captioner_trains_on_rows_of_another_model(videos, tmp_path, videomae_folder):
    main([str(videos), str(tmp_path / "rows"), *OTHERS, "--model", "videomae", "--weights", str(videomae_folder)])
    places = {"train": ["v0", "v1", "v2"], "val": ["v3"], "test": ["v4"]}
    for split, names in places.items():
        write_json(tmp_path / f"{split}.json", {name: {"captions": ["a man runs"]} for name in names})
    files = {split: f"{split}.json" for split in places}
    options = {"features": {"path": "rows", "dim": 32}, "fields": "captions", "annotations": files}
    data = open_set(tmp_path, source="features", **options)
    assert data.facts()["grid"] == 8 and data.facts()["feature_dim"] == 32
    assert next(iter(data.train_dataloader()))["features"].shape == (3, 8, 32)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--model", "clip", "--weights", "nowhere/at/all"), "--weights: 'nowhere/at/all' is neither a folder with"),
        (
            ("--model", "videomae", "--weights", "{clip}"),
            "--weights: .* is a model of type 'clip', expected 'videomae'",
        ),
        (("--model", "clip", "--weights", "{videomae}"), "holds a model of type 'videomae', expected 'clip'"),
        (
            ("--model", "videomae", "--weights", "{videomae}", "--frames", "8"),
            "--frames 8: this VideoMAE reads 4 frames",
        ),
        (("--model", "clip", "--size", "tiny"), "2"),
        (("--weights", "KINETICS40_V1"), r"\(--weights\) are neither a file nor torchvision's"),
    ],
)
def test_weights_that_cannot_serve_are_refused_by_the_options_own_name(
    videos, tmp_path, clip_folder, videomae_folder, options, message
):
    given = [text.format(clip=clip_folder, videomae=videomae_folder) for text in options]
    with pytest.raises(SystemExit) as stop:
        main([str(videos), str(tmp_path / "out"), *OTHERS, *given])
    assert re.search(message, str(stop.value)) and "task.backbone" not in str(stop.value)
    assert not (tmp_path / "out" / "extraction.json").exists()


def test_without_a_network_the_command_names_its_own_option(videos, tmp_path, monkeypatch):
    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(
        SystemExit, match=r"cannot be fetched from https://.*no network.*; --weights takes a file"
    ) as stop:
        main([str(videos), str(tmp_path / "out"), *OTHERS])
    assert "task.backbone" not in str(stop.value) and "null" not in str(stop.value)


def test_a_folder_beside_videos_does_not_hide_them(videos, tmp_path, means, capsys):
    (videos / "old").mkdir()
    (videos / "list.txt").touch()
    main([str(videos), str(tmp_path / "out"), *SMALL])
    said = capsys.readouterr().out
    assert "left out 2 that are not video files by their ending: list.txt, old" in said
    assert "5 clips extracted" in said and len(arrays(tmp_path / "out")) == 5
