"""A training whose prefix begins as another one's, such as a released LLaMA-Adapter's (task.init_prefix).

    python -m scripts.import_checkpoint llama_adapter weights.pth adapter.ckpt --llm models/llama-7b
    python train.py experiment=madv2_multi_lcaam task.init_prefix=adapter.ckpt task.llm.pretrained=models/llama-7b

Only the learned prompts and the gates are taken. At other gates than zero the first step already reads the encoder.
"""

from pathlib import Path

import torch

from tasks.audio_description.base_model import WithoutBase, check_base
from tasks.common.checkpoint_files import read_checkpoint
from tasks.common.errors import CheckpointError
from tasks.common.initial_weights import weights_of

NAMES = ("model.bridge.prompts", "model.gates")
HINT = ". python -m scripts.import_checkpoint llama_adapter IN.pth OUT.ckpt makes one of released weights"


def start_prefix(module: WithoutBase, path: str) -> None:
    """Gives the module the prompts and the gates of a checkpoint of this project.

    Raises CheckpointError: as `weights_of` does; a checkpoint without them, or with those of another number of layers,
    prompts or heads; and one that was trained on another language model.
    """
    source, own = f"task.init_prefix={path}", module.state_dict()
    weights, _ = weights_of(path, "task.init_prefix", HINT)
    if lacking := [name for name in NAMES if name not in weights]:
        raise CheckpointError(f"{source}: it has no {' and no '.join(lacking)}{HINT}")
    for name in NAMES:
        if weights[name].shape != own[name].shape:
            raise CheckpointError(
                f"{source}: {name} is {tuple(weights[name].shape)}, this model needs {tuple(own[name].shape)}: layers "
                "are task.prefix_layers, prompts of a layer task.prompts with task.bridge=queries"
            )
    check_base(read_checkpoint(Path(path)).get("base_model"), module.base_model)
    with torch.no_grad():
        for name in NAMES:
            own[name].copy_(weights[name])
