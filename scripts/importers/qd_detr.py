"""QD-DETR checkpoints {"model": state dict, "opt": options, "epoch": ...} as the project's module: its authors' own and
those that CG-DETR's and Lighthouse's trainings write.

    imported = convert(content, "model_best.ckpt")
    imported.module.predict(batch)   # the released model's outputs

Sizes come from the weights; lengths, dropout and learning rate from the options if there are any, else from the
published run. Windows are rounded to clips as in all of these codes, and cut where the original cuts those of
QVHighlights; wrong texts are chosen as in the original (task.round_windows=true, task.longest=facts,
task.wrong_texts=rolled).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from configs.composing import composed
from configs.resolvers import ROOT
from scripts.importers.common import Imported, state_dict_of
from scripts.importers.qd_detr_options import (
    LIGHTHOUSE,
    NO_LIMIT,
    data_of,
    folders_of,
    number,
    options_of,
    streams_of,
    whole,
)
from tasks.common.build import build
from tasks.common.errors import CheckpointError
from tasks.moment_retrieval.upstream import UNUSED, translated
from tasks.moment_retrieval.upstream import options_of as sizes_of

QVHIGHLIGHTS = "qvhighlights"
TEF = 2  # features that say where a clip begins and ends
MOST_TOKENS = 100  # what max_q_l=-1 means in these codes
MOST_CLIPS = 1000  # clips that are read of a video of an unknown data set without a limit
RATES = {"lr": "lr", "wd": "weight_decay", "dropout": "dropout", "input_dropout": "input_dropout"}
POSITIONS = f"{UNUSED}position_embeddings.weight"  # (most tokens, width)


def convert(content: Any, source: str, options: Sequence[str] = ()) -> Imported:
    """The module with the weights of a released checkpoint, and the configuration of its data if that is known.

    options: files and key=value words that complete or replace those in the checkpoint.
    Raises CheckpointError for anything but a QD-DETR that this project's model can be.
    """
    weights, remarks = state_dict_of(content, source)
    given = options_of(content, options, source)
    try:
        state = translated(weights)
        sizes = sizes_of(state)
    except (ValueError, IndexError) as error:
        raise CheckpointError(f"{source}: {error}") from error
    data = data_of(given)
    base = _composed(data or QVHIGHLIGHTS)
    facts, said = _facts(sizes, weights, given, base, data, source)
    of_task = {name: sizes[name] for name in sizes if name not in ("video_dim", "text_dim")}
    of_task |= {ours: number(given, theirs, 0, source, least=0) for theirs, ours in RATES.items() if theirs in given}
    of_task["heads"] = whole(given, "nheads", sizes["heads"], source)
    of_task |= {"round_windows": True, "wrong_texts": "rolled"}
    own_windows = data is None or data.removesuffix(LIGHTHOUSE) == QVHIGHLIGHTS
    of_task["longest"] = "facts" if own_windows else "duration"
    cfg = _with_streams(_composed(data or QVHIGHLIGHTS, of_task, facts), facts, folders_of(given))
    if given.get("dset_domain") and cfg.data.get("domain") is not None:
        cfg.data.domain = given["dset_domain"]
    more = build(cfg.data).facts()  # what else the data module says of its data
    facts = {name: value for name, value in more.items() if name not in ("streams", "tef")} | facts
    try:
        module = build(cfg.task, mask=OmegaConf.to_container(cfg.mask, resolve=True), facts=facts)
        module.model.load_state_dict(state)
    except (RuntimeError, ValueError, TypeError) as error:
        raise CheckpointError(f"{source}: these are not QD-DETR's weights: {error}") from error
    unused = sorted(name for name in weights if name.startswith(UNUSED))
    remarks += [f"left out, as the model never uses them: {', '.join(unused)}"] if unused else []
    remarks += said if given else ["no options in it (opt): lengths and dropout are those of the published run", *said]
    return Imported(module.eval(), cfg if "streams" in facts and data is not None else None, remarks)


def _facts(
    sizes: Mapping[str, Any],
    weights: Mapping[str, torch.Tensor],
    given: Mapping[str, Any],
    base: DictConfig,
    data: str | None,
    source: str,
) -> tuple[dict[str, Any], list[str]]:
    """The data module's facts, completed by the data's configuration, and what to tell; streams only if certain."""
    said = []
    clips, tokens = given.get("max_v_l"), given.get("max_q_l")
    if clips == NO_LIMIT:
        clips = MOST_CLIPS if data is None else base.data.max_clips
        said.append(f"max_v_l is -1, no limit: {clips} clips of a video are read (data.max_clips)")
    else:
        clips = whole(given, "max_v_l", base.data.max_clips, source)
    usual = len(weights[POSITIONS]) if POSITIONS in weights else base.data.max_tokens
    tokens = MOST_TOKENS if tokens == NO_LIMIT else whole(given, "max_q_l", usual, source)
    seconds = float(number(given, "clip_length", base.data.clip_length, source, least=0.01))
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
    lengths = {"text_dim": sizes["text_dim"], "clips": clips, "tokens": tokens, "clip_length": seconds}
    known = {name: stream.dim for name, stream in base.data.video_streams.items() if stream is not None}
    streams = streams_of(given, features, known)
    facts = {"video_dim": video, **lengths, "duration": clips * seconds, "saliency": base.data.saliency != "none"}
    if streams is not None:
        facts |= {"streams": streams, "tef": tef}
        said += _about_streams(streams, given)
    if data is None:
        said.append(f"dset_name {given['dset_name']!r} is none of this project's data sets (configs/data)")
    return facts, said


def _about_streams(streams: Mapping[str, int], given: Mapping[str, Any]) -> list[str]:
    listed = ", ".join(f"{name} ({width})" for name, width in streams.items())
    if given.get("v_feat_dirs"):
        return [f"streams in the order of its training: {listed}"]
    guessed = " (the options have no v_feat_dirs: QD-DETR's own order; Lighthouse's is CLIP first)"
    return [f"streams: {listed}{guessed if len(streams) > 1 else ''}"]


def _composed(
    data: str, of_task: Mapping[str, Any] | None = None, facts: Mapping[str, Any] | None = None
) -> DictConfig:
    """The baseline's experiment on a data set, with the checkpoint's sizes and its data's."""
    changes = {f"task.{name}": value for name, value in (of_task or {}).items()}
    if facts is not None:
        changes |= {"data.max_clips": facts["clips"], "data.max_tokens": facts["tokens"]}
        changes |= {"data.text_stream.dim": facts["text_dim"], "data.clip_length": facts["clip_length"]}
        changes |= {"data.tef": facts["tef"]} if "tef" in facts else {}
    changes["name"] = "qd_detr_released"
    own = f"{data.removesuffix(LIGHTHOUSE)}_baseline"
    words = [f"experiment={own}", f"data={data}"]
    if not (ROOT / "configs" / "experiment" / f"{own}.yaml").is_file():
        words = [f"experiment={QVHIGHLIGHTS}_baseline", f"data={data}"]
    return composed(*words, *(f"{key}={value}" for key, value in changes.items()))


def _with_streams(cfg: DictConfig, facts: Mapping[str, Any], folders: Sequence[str]) -> DictConfig:
    """The configuration with the checkpoint's streams in their order; a new one lies in its folder below features/, or
    in a folder of its name."""
    if "streams" not in facts:
        return cfg
    shipped, streams = cfg.data.video_streams, {}
    places = dict(zip(facts["streams"], folders, strict=False))
    for name, width in facts["streams"].items():
        place = places.get(name, name)
        inside = place.startswith("features/") and ".." not in place
        new = {"path": place if inside else name, "key": "features", "file": "{vid}.npz"}
        streams[name] = {**(shipped[name] if shipped.get(name) is not None else new), "dim": width}
    cfg.data.video_streams = OmegaConf.create(streams)
    return cfg
