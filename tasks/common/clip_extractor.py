"""CLIP's rows of a video's clips and of a sentence's tokens, as QVHighlights' features have them.

    clip = ClipExtractor.load("openai/clip-vit-base-patch32")     # or a folder that transformers wrote
    clip.rows(ClipFrames("movie.mp4", 2.0))                       # (clips, 512) float32
    clip.words("a dog runs")                                      # (tokens, 512) float32

A row is the picture's embedding after CLIP's projection, not normalised: `encode_image` of the original. Pictures are
prepared by the model's own image processor: shorter side to 224 pixels, central square, CLIP's mean and deviation. A
sentence's rows are the last hidden states of the text encoder, after its last layer norm and before the projection,
start and end token included; what is longer than the encoder reads is cut, its end token kept.
"""

import hashlib
import json
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datamodules.errors import DataError, some
from tasks.common.errors import CheckpointError
from tasks.common.pretrained import WEIGHTS, check_files, digest, from_pretrained

PICTURES = ("preprocessor_config.json", "processor_config.json")  # either says how pictures are prepared
KNOBS = ("size", "crop_size", "resample", "image_mean", "image_std", "do_center_crop", "do_resize")  # of their settings


class ClipExtractor:
    """transformers' CLIPModel with its tokenizer and its image processor, in eval mode."""

    def __init__(self, model: Any, tokenizer: Any, pixels: Any):
        """model: CLIPModel; tokenizer: CLIPTokenizer; pixels: CLIPImageProcessor. CheckpointError: another picture size
        than the model's."""
        self.model, self.tokenizer, self.pixels = model.eval(), tokenizer, pixels
        size = model.config.vision_config.image_size
        made = self.prepared([np.zeros((size, size, 3), np.uint8)]).shape[-2:]
        if tuple(made) != (size, size):
            raise CheckpointError(f"CLIP reads pictures of {size} x {size}; its image processor makes {tuple(made)}")

    @classmethod
    def load(cls, place: str | Path, device: str = "cpu", key: str = "CLIP") -> "ClipExtractor":
        """place: a folder with a CLIP model and its tokenizer, or the model's name on the hub. key: begins messages.

        Raises CheckpointError: neither, a damaged file, a model of another kind, weights that are not all there; a
        device that cannot be used.
        """
        from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer, CLIPImageProcessor, CLIPModel

        name = str(place)
        check_files(key, name)
        with from_pretrained(key, name, "a CLIP model", "config.json"):
            config = AutoConfig.from_pretrained(name)
        if config.model_type != "clip":
            raise CheckpointError(f"{key}: {name!r} holds a model of type {config.model_type!r}, expected 'clip'")
        with from_pretrained(key, name, "CLIP's weights", "config.json", *WEIGHTS):
            model, found = CLIPModel.from_pretrained(name, dtype=torch.float32, output_loading_info=True)
        if found["missing_keys"]:
            raise CheckpointError(f"{key}: {name!r} lacks weights: {some(sorted(found['missing_keys']), limit=3)}")
        with from_pretrained(key, name, "CLIP's tokenizer", "tokenizer*", "vocab.json", "merges.txt"):
            tokenizer = AutoTokenizer.from_pretrained(name)
        if Path(name).is_dir() and not any((Path(name) / file).is_file() for file in PICTURES):
            size = config.vision_config.image_size
            crop = {"height": size, "width": size}
            pixels = CLIPImageProcessor(size={"shortest_edge": size}, crop_size=crop)
        else:
            with from_pretrained(key, name, "CLIP's image processor", *PICTURES):
                pixels = AutoImageProcessor.from_pretrained(name)
        try:
            return cls(model.to(device), tokenizer, pixels)
        except (RuntimeError, AssertionError) as error:  # torch raises either
            raise CheckpointError(f"--device {device}: cannot be used ({str(error).splitlines()[0]})") from error

    @property
    def video_dim(self) -> int:
        """Numbers per clip: the projection's width, 512 for ViT-B/32."""
        return self.model.config.projection_dim

    @property
    def text_dim(self) -> int:
        """Numbers per token: the text encoder's width, 512 for ViT-B/32."""
        return self.model.config.text_config.hidden_size

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What the rows depend on, plain: a digest of the weights, the tokens, and how pictures are prepared."""
        vocabulary = hashlib.sha256(repr(sorted(self.tokenizer.get_vocab().items())).encode()).hexdigest()
        told = self.pixels.to_dict()
        pictures = json.loads(json.dumps({name: told.get(name) for name in KNOBS}, default=dict))
        return {"weights": digest(self.model), "vocabulary": vocabulary[:16], "pictures": pictures}

    @torch.inference_mode()
    def rows(self, frames: Iterable[np.ndarray], batch_size: int = 32) -> np.ndarray:
        """(T, video_dim) float32, a row per picture (H, W, 3) uint8; `batch_size` pictures are held at a time.

        Raises DataError: no picture.
        """
        found, waiting = [], []
        for frame in frames:
            waiting.append(self.prepared([frame]))
            if len(waiting) == batch_size:
                found.append(self._encoded(waiting))
                waiting = []
        if waiting:
            found.append(self._encoded(waiting))
        if not found:
            raise DataError("no picture to encode; at least one is needed.")
        return np.concatenate(found)

    @torch.inference_mode()
    def words(self, sentence: str) -> np.ndarray:
        """(N, text_dim) float32, a row per token. Raises DataError if there is no word in the sentence."""
        if not sentence.strip():
            raise DataError(f"query {sentence!r}: no word in it.")
        longest = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer(sentence, truncation=True, max_length=longest, return_tensors="pt")
        states = self.model.text_model(input_ids=tokens["input_ids"].to(self.model.device)).last_hidden_state
        return states[0].float().cpu().numpy()

    def prepared(self, frames: list[np.ndarray]) -> torch.Tensor:
        """Pictures (H, W, 3) uint8 of one size -> (B, 3, S, S) float32, as CLIP reads them."""
        pictures = [np.require(frame, requirements=["C", "W"]) for frame in frames]  # views and read-only ones copied
        return self.pixels(pictures, return_tensors="pt", input_data_format="channels_last")["pixel_values"]

    def _encoded(self, pixels: list[torch.Tensor]) -> np.ndarray:
        pooled = self.model.vision_model(pixel_values=torch.cat(pixels).to(self.model.device)).pooler_output
        return self.model.visual_projection(pooled).float().cpu().numpy()
