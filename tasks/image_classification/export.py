"""A trained classifier as a file that runs without this project: torch.export (.pt2) or ONNX.

>>> export(module, Path("model.onnx"))      # input "images" (B, 3, S, S), normalised; output "logits" (B, classes)
>>> worst_difference(module, Path("model.onnx"))
"""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from configs.errors import ConfigError
from tasks.image_classification.module import ImageClassification

ENDINGS = (".onnx", ".pt2")
TRACED = 2  # images: a batch of one would be taken for a constant
OPSET = 18
NEEDED = "pip install 'lcaam[export]'"


def export(module: ImageClassification, path: Path) -> None:
    """Writes the model whose scores count (the averaged one if there is one), in evaluation mode.

    Raises ConfigError: another ending; ImportError that says how to get the library for ONNX.
    """
    if path.suffix not in ENDINGS:
        raise ConfigError(f"{path}: a file that ends in {' or '.join(ENDINGS)}")
    vit, images = module.evaluated.eval(), example(module)
    batch = torch.export.Dim("batch", min=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        with torch.no_grad(), quiet(), one_graph(vit):
            program = torch.export.export(vit, (images,), dynamic_shapes=({0: batch},))
            if path.suffix == ".pt2":
                torch.export.save(program, draft)
            else:
                need_onnx()
                names = {"input_names": ["images"], "output_names": ["logits"], "opset_version": OPSET}
                shapes = {"dynamic_shapes": ({0: batch},), "external_data": False}
                torch.onnx.export(program, (images,), draft, dynamo=True, **names, **shapes)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def worst_difference(module: ImageClassification, path: Path, count: int = 5) -> float:
    """The largest difference of a logit between the exported file and the model, on `count` random images."""
    images = example(module, count)
    with torch.no_grad():
        expected = module.evaluated.eval()(images)
    return float((outputs(path, images) - expected).abs().max())


def outputs(path: Path, images: Tensor) -> Tensor:
    """The exported file's logits. Raises ImportError that says how to get what runs ONNX."""
    if path.suffix == ".pt2":
        with torch.no_grad():
            return torch.export.load(path).module()(images)
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(f"ONNX files are run by onnxruntime: {NEEDED}") from error
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def example(module: ImageClassification, count: int = TRACED) -> Tensor:
    size = module.hparams.facts["image_size"]
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def need_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(f"ONNX files are written with onnx and onnxscript: {NEEDED}") from error


@contextmanager
def one_graph(vit: VisionTransformer) -> Iterator[None]:
    """Attention as the equation: `auto` would choose a backend by the size of the batch, which a graph leaves open."""
    part = vit.lcaam
    before, part.backend = part.backend, "reference"
    try:
        yield
    finally:
        part.backend = before


@contextmanager
def quiet() -> Iterator[None]:
    """Without the exporter's own progress messages and its warnings about its own code."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        levels = {name: logging.getLogger(name).level for name in ("torch.onnx", "onnxscript", "onnx_ir")}
        for name in levels:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
