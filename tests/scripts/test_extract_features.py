"""Extracting features: the backbone's grid of the central square, complete files or none, resumed, failures listed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models.video import swin3d_t

from datamodules.video_captioning.captions import Clip
from datamodules.video_captioning.clips import Pixels
from datamodules.video_captioning.feature_files import write_features
from datamodules.video_captioning.sources import VideoFiles
from scripts import extract_features
from scripts.extract_features import main
from scripts.extract_frames import main as extract_frames
from tasks.video_captioning.feature_models import MEAN, STD, FeatureModel
from tests.datamodules.video_captioning.small import footage, write_video
from tests.programs import started

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
    from datamodules.video_captioning.transforms import cut
    from datamodules.video_captioning.video import read_video

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
