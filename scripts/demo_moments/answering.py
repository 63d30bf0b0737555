"""What the page shows of a video and its queries: windows, saliency, and the masks between clips and words.

Answering(MomentPredictor(checkpoint, clip)).answer(Path("movie.mp4"), ["a dog runs"])
# {"duration": 62.0, "clip_length": 2.0, "answers": [{"query", "windows", "saliency", "words", "masks"}]}
"""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.errors import DataError
from datamodules.moment_retrieval.arrays import moment_batches
from tasks.moment_retrieval.predictor import MomentPredictor, predict

MOST = 12  # queries at once
SHOWN = 5  # windows per query
OVERLAP = 0.5  # IoU above which the worse of two windows is not shown
START, END = "start", "end"


class Answering:
    """Asks one model; one question at a time, and the rows of the last video are kept."""

    def __init__(self, predictor: MomentPredictor):
        """Raises DataError for a model that reads more than one stream; CheckpointError: CLIP cannot be loaded."""
        if len(predictor.streams) != 1:
            told = ", ".join(predictor.streams) or "its checkpoint does not say which"
            raise DataError(f"the page reads videos by CLIP alone, but the model was trained on other streams: {told}.")
        self.predictor, self.lock = predictor, threading.Lock()
        self.last: tuple[tuple, tuple] | None = None
        _ = predictor.clip  # loaded now: what is wrong with it is told before the page opens

    def answer(self, video: Path, queries: Sequence[str]) -> dict[str, Any]:
        """Plain values for JSON. Raises DataError: a video that cannot be read; no query, too many, an empty one."""
        if not 1 <= len(queries) <= MOST or not all(isinstance(query, str) for query in queries):
            raise DataError(f"{len(queries)} queries: 1 to {MOST} sentences can be asked at once.")
        with self.lock:
            rows, duration = self._rows(video)
            model, clip = self.predictor.model, self.predictor.clip
            tokens = [clip.words(query) for query in queries]
            found = predict(model, rows, tokens, duration=duration, windows=SHOWN, overlap=OVERLAP)
            answers = [
                {"query": query, **answer, "words": self._words(query), "masks": self._masks(rows, words, duration)}
                for query, answer, words in zip(queries, found, tokens, strict=True)
            ]
        return {"duration": duration, "clip_length": model.hparams.facts["clip_length"], "answers": answers}

    def _rows(self, video: Path) -> tuple[dict[str, np.ndarray], float]:
        status = video.stat()
        key = (video, status.st_size, status.st_mtime_ns)
        if self.last is None or self.last[0] != key:
            self.last = (key, self.predictor.rows(video, self.predictor.model.hparams.facts["clip_length"]))
        return self.last[1]

    def _words(self, query: str) -> list[str]:
        """The sentence's tokens, as the mask's columns are labelled."""
        tokenizer, most = self.predictor.clip.tokenizer, self.predictor.model.hparams.facts["tokens"]
        names = {tokenizer.bos_token: START, tokenizer.eos_token: END}
        read = tokenizer.convert_ids_to_tokens(tokenizer(query, truncation=True, max_length=most).input_ids)
        return [names.get(token, token.removesuffix("</w>")) for token in read]

    def _masks(self, rows: dict[str, np.ndarray], words: np.ndarray, duration: float) -> dict[str, list[list[float]]]:
        """Layer -> (clips, tokens); in a long video each clip's row is of the excerpt that shows most around it."""
        model = self.predictor.model
        whole: dict[str, np.ndarray] = {}
        inward = np.zeros(len(next(iter(rows.values()))))
        for batch in moment_batches(model.hparams.facts, rows, [words], duration=duration, batch_size=1):
            masks = model.analyse({name: moved(value, model.device) for name, value in batch.items()})["masks"]
            first, size = batch["annotation"][0]["first"], int(batch["video_keep"].sum())
            near = np.minimum(np.arange(1, size + 1), np.arange(size, 0, -1))
            better = near > inward[first : first + size]
            for layer, mask in masks.items():
                kept = whole.setdefault(layer, np.zeros((len(inward), mask.shape[1])))
                kept[first : first + size][better] = mask[:size][better]
            inward[first : first + size] = np.maximum(inward[first : first + size], near)
        return {layer: mask.round(4).tolist() for layer, mask in whole.items()}


def moved(value: Any, device: Any) -> Any:
    return value.to(device) if hasattr(value, "to") else value
