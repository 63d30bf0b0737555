"""Writes a trained classifier as a file that runs without this project, and compares its outputs with the model's.

    python -m scripts.export logs/image_folder_lcaam/paper/seed0/<time> --output model.onnx
    python -m scripts.export logs/.../checkpoints/best.ckpt --output model.pt2

.onnx is read by onnxruntime and others, .pt2 by torch.export.load. Input: images (B, 3, S, S), normalised; output:
logits (B, classes). Beside it model.json names the classes and says how images are prepared. ONNX needs the extra
`export` (onnx, onnxscript, onnxruntime).
"""

import sys
from pathlib import Path

from omegaconf import OmegaConf

from configs.errors import ConfigError
from scripts.arguments import parser_for
from scripts.opened import opened
from tasks.common.checkpoints import load_module
from tasks.common.errors import CheckpointError
from tasks.common.files import write_json
from tasks.image_classification.export import export, worst_difference
from tasks.image_classification.module import ImageClassification

PREPARED = ("image_size", "crop_pct", "interpolation", "mean", "std")
CLOSE = 1e-5  # of a logit


def run(source: Path, output: Path) -> list[str]:
    """Exports and compares; returns lines that say what was written. ConfigError: outputs that differ."""
    cfg, checkpoint, _ = opened(source, ImageClassification, "image classification")
    module = load_module(ImageClassification, checkpoint)
    export(module, output)
    facts, data = module.hparams.facts, OmegaConf.to_container(cfg.data, resolve=True)
    told = {name: facts.get(name) for name in ("class_names", "class_folders")} | {
        name: data[name] for name in PREPARED
    }
    write_json(output.with_suffix(".json"), {"checkpoint": str(checkpoint), **told})
    worst = worst_difference(module, output)
    if worst > CLOSE:
        raise ConfigError(f"{output}: its logits differ by up to {worst:.2g} from the model's")
    return [
        f"{output}: {output.stat().st_size:,} bytes; the largest difference of a logit is {worst:.2g}",
        f"{output.with_suffix('.json')}: classes, and how images are prepared",
    ]


def main(given: list[str] | None = None) -> None:
    parser = parser_for("export", __doc__)
    parser.add_argument("run", type=Path, help="a run's folder, or a checkpoint in it")
    parser.add_argument("--output", type=Path, required=True, help="the file to write: .onnx or .pt2")
    chosen = parser.parse_args(given)
    try:
        print(*run(chosen.run, chosen.output), sep="\n")
    except (ConfigError, CheckpointError, ImportError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
