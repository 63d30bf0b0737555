"""CLIP's rows: transformers' embeddings of the pictures that PIL would prepare, and its last hidden states of words."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, BertConfig, CLIPModel

from datamodules.errors import DataError
from tasks.common.clip_extractor import ClipExtractor
from tasks.common.errors import CheckpointError
from tests.tasks.moment_retrieval.small_clip import SIZE, WIDTH, write_clip

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of the original's pictures


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip") / "small")


@pytest.fixture(scope="module")
def clip(folder) -> ClipExtractor:
    return ClipExtractor.load(folder)


def pictures(count: int, height: int, width: int) -> list[np.ndarray]:
    """Smooth pictures (height, width, 3) uint8."""
    rng = np.random.default_rng(height + width)
    small = rng.integers(0, 256, (count, 6, 7, 3), dtype=np.uint8)
    return [np.asarray(Image.fromarray(one).resize((width, height), Image.Resampling.BICUBIC)) for one in small]


def by_pil(picture: np.ndarray) -> np.ndarray:
    """(3, S, S): as the original prepares a picture: shorter side to S, central square, mean and deviation."""
    image = Image.fromarray(picture)
    scale = SIZE / min(image.size)
    width, height = (int(side * scale) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - SIZE) // 2, (height - SIZE) // 2
    square = np.asarray(image.crop((left, top, left + SIZE, top + SIZE)), np.float32) / 255
    return ((square - MEAN) / STD).transpose(2, 0, 1).astype(np.float32)


@pytest.mark.parametrize(("height", "width"), [(48, 48), (60, 101), (144, 80), (37, 48)])
def test_a_row_is_the_projected_embedding_of_the_central_square(folder, clip, height, width) -> None:
    model = CLIPModel.from_pretrained(folder).eval()
    given = pictures(3, height, width)
    pixels = torch.from_numpy(np.stack([by_pil(picture) for picture in given]))
    with torch.no_grad():
        found = model.get_image_features(pixel_values=pixels)
        expected = getattr(found, "pooler_output", found)  # transformers 5 returns all outputs
    rows = clip.rows(given)
    assert rows.shape == (3, clip.video_dim) == (3, WIDTH) and rows.dtype == np.float32
    np.testing.assert_allclose(rows, expected.numpy(), atol=0.03 * float(expected.std()))  # PIL rounds to 1/255
    assert np.linalg.norm(rows, axis=1).std() > 0  # not normalised


@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_rows_do_not_depend_on_how_many_are_read_at_once(clip, batch_size) -> None:
    given = pictures(5, 50, 60)
    np.testing.assert_allclose(clip.rows(iter(given), batch_size), clip.rows(given), atol=1e-5)


def test_a_sentences_rows_are_the_last_hidden_states_of_all_its_tokens(folder, clip) -> None:
    tokens = AutoTokenizer.from_pretrained(folder)(["A red Seven runs"], return_tensors="pt")
    with torch.no_grad():
        expected = CLIPModel.from_pretrained(folder).eval().text_model(**tokens).last_hidden_state[0]
    rows = clip.words("A red Seven runs")
    np.testing.assert_allclose(rows, expected.numpy(), atol=1e-5)
    assert rows.shape == (tokens["input_ids"].shape[1], clip.text_dim)
    assert tokens["input_ids"][0, 0] == clip.tokenizer.bos_token_id
    assert tokens["input_ids"][0, -1] == clip.tokenizer.eos_token_id
    np.testing.assert_allclose(np.abs(rows.mean(1)), 0, atol=1e-5)  # after the last layer norm


def test_a_long_sentence_is_cut_and_keeps_its_end_token(clip) -> None:
    assert len(clip.words("a red seven " * 40)) == clip.model.config.text_config.max_position_embeddings


@pytest.mark.parametrize("sentence", ["", "  \n"])
def test_a_sentence_without_a_word_is_refused(clip, sentence) -> None:
    with pytest.raises(DataError, match="no word in it"):
        clip.words(sentence)


def test_no_picture_is_refused(clip) -> None:
    with pytest.raises(DataError, match="no picture to encode"):
        clip.rows([])


def test_settings_tell_two_models_apart_and_are_the_same_every_time(folder, clip, tmp_path) -> None:
    again = ClipExtractor.load(folder)
    assert again.settings == clip.settings == json.loads(json.dumps(clip.settings))
    other = ClipExtractor.load(write_clip(tmp_path / "other", seed=1)).settings
    assert other["weights"] != clip.settings["weights"]
    assert other["pictures"] == clip.settings["pictures"]
    again.pixels.image_mean = [0.5, 0.5, 0.5]
    del again.settings
    assert again.settings["pictures"] != clip.settings["pictures"]


def test_a_folder_without_settings_for_pictures_gets_clips_own(folder, clip, tmp_path) -> None:
    shutil.copytree(folder, tmp_path / "bare")
    (tmp_path / "bare/preprocessor_config.json").unlink()
    given = pictures(2, 60, 70)
    np.testing.assert_array_equal(ClipExtractor.load(tmp_path / "bare").rows(given), clip.rows(given))


# -- refusals ---------------------------------------------------------------------------------------------------------


def refused(place, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        ClipExtractor.load(place)


def test_what_is_no_clip_is_named(folder, tmp_path) -> None:
    refused(tmp_path / "none", "neither a folder with a CLIP model nor one that can be fetched from the hub")
    BertConfig(hidden_size=8, num_attention_heads=1).save_pretrained(tmp_path / "bert")
    refused(tmp_path / "bert", "holds a model of type 'bert', expected 'clip'")


def test_damaged_and_missing_weights_are_named(folder, tmp_path) -> None:
    shutil.copytree(folder, tmp_path / "some")
    path = tmp_path / "some/model.safetensors"
    weights = load_file(path)
    del weights["visual_projection.weight"]
    save_file(weights, path, metadata={"format": "pt"})
    refused(tmp_path / "some", "lacks weights: visual_projection.weight")
    path.write_bytes(path.read_bytes()[:1000])
    refused(tmp_path / "some", "model.safetensors is damaged or cut off")
    path.unlink()
    refused(tmp_path / "some", "CLIP's weights")


def test_pictures_of_another_size_than_the_models_are_refused(folder, tmp_path) -> None:
    shutil.copytree(folder, tmp_path / "wide")
    path = tmp_path / "wide/preprocessor_config.json"
    told = json.loads(path.read_text())
    told |= {"size": {"shortest_edge": 60}, "crop_size": {"height": 60, "width": 60}}
    path.write_text(json.dumps(told))
    refused(tmp_path / "wide", r"CLIP reads pictures of 48 x 48; its image processor makes \(60, 60\)")


def test_a_device_that_is_not_there_is_named(folder) -> None:
    with pytest.raises(CheckpointError, match="--device nowhere: cannot be used"):
        ClipExtractor.load(folder, "nowhere")
