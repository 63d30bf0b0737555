"""Released QD-DETR checkpoints {"model": state dict, "opt": argparse.Namespace, "epoch": ...} as the project's module.

    imported = convert(content, "model_best.ckpt")
    imported.module.predict(batch)   # the released model's outputs

Sizes come from the weights; lengths, dropout and learning rate from `opt` if it has them, else from the published run.
Windows are cut where the original cuts them, and wrong texts are chosen as in the original (task.longest=facts,
task.wrong_texts=rolled).
"""

from collections.abc import Mapping
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from configs.composing import composed
from scripts.importers.common import Imported, tensors_of
from tasks.common.build import build
from tasks.common.errors import CheckpointError
from tasks.moment_retrieval.upstream import UNUSED, options_of, translated

STREAMS = {"slowfast_features": 2304, "clip_features": 512}  # widths in the published runs, in their order
KNOWN = {sum(STREAMS[name] for name in names): names for names in (tuple(STREAMS), *((name,) for name in STREAMS))}
TEF = 2  # features that say where a clip begins and ends
ABSENT = {"pre_norm": (False,), "use_txt_pos": (False,), "position_embedding": ("sine",), "span_loss_type": ("l1",)}
RATES = {"lr": "lr", "wd": "weight_decay", "dropout": "dropout", "input_dropout": "input_dropout"}
POSITIONS = f"{UNUSED}position_embeddings.weight"  # (most tokens, width)


def convert(content: Any, source: str) -> Imported:
    """The module with the weights of a released checkpoint, and the configuration of its data if that is known.

    Raises CheckpointError for anything but a QD-DETR that this project's model can be.
    """
    weights, given = tensors_of(content, "model", source), _options(content, source)
    try:
        state = translated(weights)
        sizes = options_of(state)
    except (ValueError, IndexError) as error:
        raise CheckpointError(f"{source}: {error}") from error
    facts = _facts(sizes, weights, given, source)
    of_task = {name: sizes[name] for name in sizes if name not in ("video_dim", "text_dim")}
    of_task |= {ours: _number(given, theirs, 0, source, least=0) for theirs, ours in RATES.items() if theirs in given}
    of_task["heads"] = _whole(given, "nheads", sizes["heads"], source)
    of_task |= {"longest": "facts", "wrong_texts": "rolled"}
    cfg = _composed(of_task, facts)
    try:
        module = build(cfg.task, mask=OmegaConf.to_container(cfg.mask, resolve=True), facts=facts)
        module.model.load_state_dict(state)
    except (RuntimeError, ValueError, TypeError) as error:
        raise CheckpointError(f"{source}: these are not QD-DETR's weights: {error}") from error
    unused = sorted(name for name in weights if name.startswith(UNUSED))
    remarks = [f"left out, as the model never uses them: {', '.join(unused)}"] if unused else []
    remarks += [] if given else ["no options in it (opt): lengths and dropout are those of the published run"]
    return Imported(module.eval(), cfg if "streams" in facts and _is_qvhighlights(given) else None, remarks)


def _options(content: Mapping[str, Any], source: str) -> dict[str, Any]:
    """What the checkpoint says of its own options. CheckpointError for those that ask for another model."""
    opt = content.get("opt")
    given = dict(opt) if isinstance(opt, Mapping) else dict(vars(opt)) if hasattr(opt, "__dict__") else {}
    for name, allowed in ABSENT.items():
        if name in given and given[name] not in allowed:
            raise CheckpointError(
                f"{source}: opt.{name} is {given[name]!r}; this project's QD-DETR is the published one, with "
                f"{name}={allowed[0]!r}"
            )
    return given


def _number(given: Mapping[str, Any], name: str, default: float, source: str, least: float) -> float:
    value = given.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < float("inf"):
        raise CheckpointError(f"{source}: opt.{name} is {value!r}, expected a number of at least {least:g}")
    return value


def _whole(given: Mapping[str, Any], name: str, default: int, source: str) -> int:
    if (value := _number(given, name, default, source, least=1)) != int(value):
        raise CheckpointError(f"{source}: opt.{name} is {value!r}, expected a whole number")
    return int(value)


def _facts(sizes: dict, weights: dict[str, torch.Tensor], given: dict[str, Any], source: str) -> dict[str, Any]:
    """The data module's facts, completed by QVHighlights' published options; streams only if they are certain."""
    clips = _whole(given, "max_v_l", 75, source)
    tokens = _whole(given, "max_q_l", len(weights[POSITIONS]) if POSITIONS in weights else 32, source)
    seconds = float(_number(given, "clip_length", 2, source, least=0.01))
    video, tef = sizes["video_dim"], "tef" in str(given.get("ctx_mode", "video_tef"))
    features = video - TEF * tef
    if "v_feat_dim" in given and not given.get("a_feat_dim") and given["v_feat_dim"] not in (features, video):
        raise CheckpointError(
            f"{source}: opt.v_feat_dim is {given['v_feat_dim']}, but the weights take {video} features per clip"
        )
    if given.get("t_feat_dim", sizes["text_dim"]) != sizes["text_dim"]:
        raise CheckpointError(
            f"{source}: opt.t_feat_dim is {given['t_feat_dim']}, but the weights take {sizes['text_dim']} per token"
        )
    facts = {"video_dim": video, "text_dim": sizes["text_dim"], "clips": clips, "tokens": tokens}
    facts |= {"clip_length": seconds, "duration": clips * seconds, "saliency": True}
    if features in KNOWN and not given.get("a_feat_dim"):
        facts |= {"streams": {name: STREAMS[name] for name in KNOWN[features]}, "tef": tef}
    return facts


def _is_qvhighlights(given: dict[str, Any]) -> bool:
    return given.get("dset_name", "hl") == "hl"


def _composed(of_task: dict[str, Any], facts: dict[str, Any]) -> DictConfig:
    """experiment=qvhighlights_baseline with the checkpoint's sizes and its data's."""
    changes = {f"task.{name}": value for name, value in of_task.items()}
    changes |= {"data.max_clips": facts["clips"], "data.max_tokens": facts["tokens"]}
    changes |= {"data.text_stream.dim": facts["text_dim"], "data.clip_length": facts["clip_length"]}
    changes |= {"name": "qd_detr_released"}
    if "streams" in facts:
        changes["data.tef"] = facts["tef"]
        changes |= {f"data.video_streams.{name}": "null" for name in STREAMS if name not in facts["streams"]}
    return composed("experiment=qvhighlights_baseline", *(f"{k}={v}" for k, v in changes.items()))
