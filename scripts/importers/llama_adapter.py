"""Released LLaMA-Adapter weights (arXiv:2303.16199): the learned prompts and the gates, without a visual path.

    imported = convert(content, "llama_adapter_len10_layer30_release.pth", llm="models/llama-7b")
    imported.module.model.constant_prefix(size=1)    # what the language model reads

adapter_query.weight (L x P, D) has P prompts for each of the last L layers, the first of them first;
layers.N.attention.gate has a number per head of layer N, before tanh. The language model is not in it: `llm` is a copy
of the LLaMA that it was trained on, as transformers saves it. Prompts are vectors of the model's width, so they do not
depend on the order of rows in its query and key projections, in which the two layouts differ.
"""

import re
from typing import Any

import torch
from omegaconf import OmegaConf

from configs.composing import composed
from scripts.importers.common import Imported, state_dict_of
from tasks.common.build import build
from tasks.common.errors import CheckpointError

QUERY, GATE = "adapter_query.weight", re.compile(r"layers\.(\d+)\.attention\.gate")
BASE = re.compile(  # LLaMA itself, which a training saves beside the adapter
    r"tok_embeddings\.weight|norm\.weight|output\.weight|rope\.freqs|layers\.\d+\.(attention\.w[qkvo]|feed_forward\.w[123]|"
    r"attention_norm|ffn_norm)\.weight|layers\.\d+\.attention\.inner_attention\.rope\.freqs"
)
UNUSED = {"width": 64, "layers": 1, "heads": 1, "feedforward": 64, "bridge_layers": 1, "bridge_heads": 1}


def convert(content: Any, source: str, llm: str) -> Imported:
    """A describer that reads no input (task.blind) with the released prompts and gates, and its configuration for MAD.

    llm: folder or hub id of the language model. Raises CheckpointError as `released` does, for an adapter of another
    language model's sizes, and for a language model that cannot be loaded.
    """
    prompts, gates, end, remarks = released(content, source)
    layers, count, width = prompts.shape
    cfg = composed("experiment=madv2_baseline", "scale=paper")
    changes = {f"task.{name}": value for name, value in UNUSED.items()}
    changes |= {"task.blind": True, "task.bridge": "queries", "task.prompts": count, "task.prefix_layers": layers}
    changes |= {"task.llm.pretrained": llm, "name": "llama_adapter_released", "test_checkpoint": "last"}
    for name, value in changes.items():
        OmegaConf.update(cfg, name, value)
    facts = {"video_dim": cfg.data.video_dim, "audio_dim": cfg.data.audio_dim, "tokens": cfg.data.tokens}
    module = build(cfg.task, mask=OmegaConf.to_container(cfg.mask, resolve=True), facts=facts)
    sizes = module.model.llm.config
    ours, theirs = (end, width, gates.shape[1]), (sizes.num_hidden_layers, sizes.hidden_size, sizes.num_attention_heads)
    if ours != theirs:
        expected, found = ("{} layers of width {} with {} heads".format(*given) for given in (ours, theirs))
        raise CheckpointError(
            f"{source} belongs to a language model of {expected}; {llm!r} has {found}: give the one that it was "
            "trained on (--llm)"
        )
    with torch.no_grad():
        module.model.bridge.prompts.copy_(prompts)
        module.model.gates.copy_(gates)
    remarks.append(
        f"{count} prompts and {gates.shape[1]} gates for each of the last {layers} layers; the encoder is random and "
        "is not read (task.blind=true)"
    )
    return Imported(module.eval(), cfg, remarks)


def released(content: Any, source: str) -> tuple[torch.Tensor, torch.Tensor, int, list[str]]:
    """Prompts (L, P, D), gates (L, H) before tanh, both float32, the language model's layers, and what to tell.

    content: what torch.load gave: the adapter alone, or a training's checkpoint, in which LLaMA's own weights are left
    out. Raises CheckpointError for anything else, such as LLaMA-Adapter V2, whose visual path and changed biases cannot
    be left out.
    """
    weights, remarks = state_dict_of(content, source)
    gates = {int(match[1]): value for name, value in weights.items() if (match := GATE.fullmatch(name))}
    others = sorted(name for name in weights.keys() - {QUERY} if not GATE.fullmatch(name))
    if strange := [name for name in others if not BASE.fullmatch(name)]:
        raise CheckpointError(
            f"{source}: not prompts and gates alone: {', '.join(strange[:4])}{', ...' * (len(strange) > 4)}. Only "
            "LLaMA-Adapter of the first version (adapter_query, gates) can be imported: V2 has a visual path of its "
            "own, and changes LLaMA's weights"
        )
    if QUERY not in weights or not gates:
        raise CheckpointError(f"{source}: no LLaMA-Adapter: '{QUERY}' and 'layers.N.attention.gate' are expected")
    remarks += [f"left out, as the language model brings it: {len(others)} weights of LLaMA"] if others else []
    while len(gates) > 1 and not gates[min(gates)].any() and any(gate.any() for gate in gates.values()):
        del gates[min(gates)]  # a training also saves the gates of layers that have no prompts
    numbers = sorted(gates)
    if numbers != [*range(numbers[0], numbers[-1] + 1)] or len({gate.numel() for gate in gates.values()}) > 1:
        raise CheckpointError(f"{source}: the gates of layers {numbers} are not those of neighbours with as many heads")
    query = weights[QUERY].float()
    if query.dim() != 2 or len(query) % len(gates):
        raise CheckpointError(
            f"{source}: '{QUERY}' {tuple(query.shape)} does not have as many prompts for each of {len(gates)} layers"
        )
    prompts = query.unflatten(0, (len(gates), -1))
    return prompts, torch.stack([gates[n].float().flatten() for n in numbers]), numbers[-1] + 1, remarks
