"""Attention on pictures: the right weights on the right patches, and a script that draws them from finished runs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lcaam.analysis import record
from tasks.image_classification.attention_figures import attention_on_pictures, looked_at
from tests.programs import started
from tests.tasks.image_classification.small import SIZES, build, pictures

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("layer", [0, 1, -1])
def test_class_attention_and_mask_row_lie_on_their_patches(layer):
    vit = build("per_layer", "mul", mask_changes={"init": "default"}).eval().vit
    images = pictures(5)["image"]
    found = looked_at(vit, images, layer)
    with torch.no_grad(), record(vit) as records:
        vit(images)
    r = records[layer]
    assert found.attention.shape == found.mask.shape == (5, 3, 3)
    for row in range(3):
        for column in range(3):
            token = 1 + 3 * row + column
            np.testing.assert_allclose(found.attention[:, row, column], r.weights[:, :, 0, token].mean(1), rtol=1e-5)
            np.testing.assert_allclose(found.mask[:, row, column], r.mask[:, 0, 0, token], rtol=1e-5)
    np.testing.assert_allclose(found.whole_mask, r.mask[:, 0].mean(0), rtol=1e-5)


def test_a_static_mask_is_the_same_for_all_and_no_mask_is_none():
    static = build("shared", "gate", mask_changes={"kind": "static"}).eval().vit
    found = looked_at(static, pictures(4)["image"])
    assert found.mask.shape == (4, 3, 3) and (found.mask == found.mask[0]).all()
    assert looked_at(build().eval().vit, pictures(4)["image"]).mask is None


def test_without_a_class_token_it_is_the_mean_over_tokens():
    options = SIZES | {"class_token": False, "global_pool": "avg"}
    module = build(model_options=options).eval()
    found = looked_at(module.vit, pictures(2)["image"])
    np.testing.assert_allclose(found.attention.sum((1, 2)), 1, rtol=1e-5)
    assert module.analyse(pictures(2))["tokens"] == {}


def test_a_layer_that_is_not_there_is_named():
    with pytest.raises(IndexError, match="layer 2 of 2: allowed are 0 to 1"):
        looked_at(build().eval().vit, pictures(1)["image"], 2)


def test_a_panel_shows_bright_where_the_values_are_high():
    """A black picture, a high value in its lower left corner: that corner's pixels of the panel are the brightest."""
    values = np.zeros((1, 2, 2))
    values[0, 1, 0] = 1.0
    figure = attention_on_pictures(np.zeros((1, 8, 8, 3)), {"attention": values})
    figure.canvas.draw()
    drawn = np.asarray(figure.canvas.buffer_rgba())[..., :3].mean(-1)
    box = figure.axes[1].get_window_extent()
    height = drawn.shape[0]
    panel = drawn[int(height - box.y1) + 3 : int(height - box.y0) - 3, int(box.x0) + 3 : int(box.x1) - 3]
    rows, columns = panel.shape[0] // 2, panel.shape[1] // 2
    corners = [panel[:rows, :columns], panel[:rows, columns:], panel[rows:, :columns], panel[rows:, columns:]]
    assert max(range(4), key=lambda i: corners[i].mean()) == 2
    assert corners[2].mean() > 2 * corners[0].mean() + 10


def test_values_of_another_number_of_pictures_are_refused():
    with pytest.raises(ValueError, match="2 pictures need"):
        attention_on_pictures(np.zeros((2, 4, 4, 3)), {"attention": np.zeros((3, 2, 2))})


@pytest.mark.slow
def test_the_script_draws_two_finished_runs_beside_each_other(tmp_path):
    folders = []
    for experiment in ("imagenet1k_baseline", "imagenet1k_multi_lcaam"):
        options = [f"paths.{name}_dir={tmp_path / name}" for name in ("log", "data")]
        options += [f"experiment={experiment}", "scale=smoke", "floors.enabled=false"]
        assert started("train.py", *options).returncode == 0
        folders += [path.parent for path in (tmp_path / "log").rglob(f"{experiment}/**/results.json")]
    script = ["-m", "scripts.attention_on_images", str(folders[1]), "--images", "3"]
    script += ["--out", str(tmp_path / "seen.png")]
    alone = started(*script).stdout.split()
    narrow = Image.open(tmp_path / "seen.png").width
    both = started(*script, "--beside", str(folders[0])).stdout.split()
    assert alone == both == [str(tmp_path / "seen.png"), str(tmp_path / "seen_mask.png")]
    assert Image.open(tmp_path / "seen.png").width > narrow
    assert Image.open(tmp_path / "seen_mask.png").width > 100
    wrong = started(*script, "--layer", "9")
    assert wrong.returncode == 1 and "layer 9 of 2" in wrong.stderr and "Traceback" not in wrong.stderr
