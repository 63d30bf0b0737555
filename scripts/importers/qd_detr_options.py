"""The options that a QD-DETR training saved: those of QD-DETR, CG-DETR's and Lighthouse's data sets included.

    given = options_of(checkpoint, ["opt.json", "max_v_l=75"], "model_best.ckpt")
    data_of(given)                                        # "charades_sta": a file of configs/data, or None
    streams_of(given, 2816, {"slowfast_features": 2304, "clip_features": 512})   # in the order of the training, or None

Lighthouse puts CLIP before SlowFast, QD-DETR SlowFast before CLIP. Both orders have the same width, so the order is
read from `v_feat_dirs`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from omegaconf import OmegaConf

from configs.guard import reading
from configs.resolvers import ROOT
from datamodules.formats.json_text import read_json
from tasks.common.errors import CheckpointError

ABSENT = {
    "pre_norm": (False,),
    "use_txt_pos": (False,),
    "position_embedding": ("sine",),
    "span_loss_type": ("l1",),
    "model_name": ("qd_detr",),
    "no_norm_vfeat": (False,),  # this project's data modules always give rows of length 1
    "no_norm_tfeat": (False,),
}
DATA = {  # dset_name -> names that its file in configs/data may have
    "hl": ("qvhighlights",),
    "qvhighlight": ("qvhighlights",),
    "qvhighlight_pretrain": ("qvhighlights",),
    "charadesSTA": ("charades_sta",),
    "charades": ("charades_sta",),
    "tacos": ("tacos",),
    "activitynet": ("activitynet_captions", "activitynet"),
    "nlq": ("ego4d_nlq", "nlq"),
    "tvsum": ("tvsum",),
    "youtube_uni": ("youtube_highlights",),
    "youtube_highlight": ("youtube_highlights",),
    "clotho-moment": ("clotho_moment",),
    "unav100": ("unav100",),
    "unav100-subset": ("unav100_subset", "unav100"),
    "tut2017": ("tut2017",),
    "castella": ("castella",),
}
LIGHTHOUSE = "_lighthouse"  # after the name of a data set: the same in Lighthouse's folders
LIGHTHOUSE_FOLDERS = {"clip", "slowfast", "i3d", "resnet"}  # names of its folders of features
USUAL = {"slowfast_features": 2304, "clip_features": 512}  # widths of a data set that has other streams
NO_LIMIT = -1  # as a length


def options_of(content: Mapping[str, Any], more: Sequence[str], source: str) -> dict[str, Any]:
    """What a checkpoint says of its own options, and `more`: files (JSON, YAML) and key=value words, which win.

    Raises CheckpointError: options that ask for another model; a file or word that cannot be read.
    """
    opt = content.get("opt")
    given = dict(opt) if isinstance(opt, Mapping) else dict(vars(opt)) if hasattr(opt, "__dict__") else {}
    for word in more:
        given |= _read(word)
    for name, allowed in ABSENT.items():
        if name in given and given[name] not in allowed:
            raise CheckpointError(
                f"{source}: opt.{name} is {given[name]!r}; this project's QD-DETR is the published one, with "
                f"{name}={allowed[0]!r}"
            )
    return given


def _read(word: str) -> dict[str, Any]:
    path, (key, sign, text) = Path(word), word.partition("=")
    if path.suffix in (".json", ".yaml", ".yml") and not (sign and not path.is_file()):
        with reading(f"--options: {path} cannot be read", CheckpointError):
            found = read_json(path) if path.suffix == ".json" else plain(OmegaConf.load(path))
            if not isinstance(found, dict):
                raise CheckpointError(f"--options: {path} holds {type(found).__name__}, expected names with values")
            return {str(name): value for name, value in found.items()}
    if not key or not sign:
        raise CheckpointError(f"--options: {word!r} is neither a file (.json, .yaml) nor KEY=VALUE")
    with reading(f"--options: {word!r} is not KEY=VALUE", CheckpointError):
        return {key: plain(OmegaConf.from_dotlist([f"value={text}"]))["value"]}


def plain(node: Any) -> Any:
    """OmegaConf's reading of YAML (3e-4 is a number) as plain values, in which nothing is looked up."""
    return OmegaConf.to_container(node, resolve=False)


def data_of(given: Mapping[str, Any]) -> str | None:
    """The file of configs/data, without its ending, of the data set that was trained on; None if there is none.

    Options that name no data set are those of QVHighlights, the published run's.
    """
    name = given.get("dset_name", "hl")
    files = DATA.get(name, ()) if isinstance(name, str) else ()
    if {PurePosixPath(folder).name for folder in folders_of(given)} & LIGHTHOUSE_FOLDERS:
        files = (*(f"{file}{LIGHTHOUSE}" for file in files), *files)
    return next((file for file in files if (ROOT / "configs" / "data" / f"{file}.yaml").is_file()), None)


def folders_of(given: Mapping[str, Any]) -> list[str]:
    """The folders of the streams, in the order of the training; empty if they are not known."""
    folders = given.get("v_feat_dirs") or []
    folders = [folders] if isinstance(folders, str) else folders
    return [str(folder) for folder in folders] if isinstance(folders, (list, tuple)) else []


def number(given: Mapping[str, Any], name: str, default: float, source: str, least: float) -> float:
    """An option that is a finite number of at least `least`. Raises CheckpointError for anything else."""
    value = given.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < float("inf"):
        raise CheckpointError(f"{source}: opt.{name} is {value!r}, expected a number of at least {least:g}")
    return value


def whole(given: Mapping[str, Any], name: str, default: int, source: str) -> int:
    """An option that is a whole number of at least 1. Raises CheckpointError for anything else."""
    if (value := number(given, name, default, source, least=1)) != int(value):
        raise CheckpointError(f"{source}: opt.{name} is {value!r}, expected a whole number")
    return int(value)


def streams_of(given: Mapping[str, Any], features: int, known: Mapping[str, int]) -> dict[str, int] | None:
    """Name -> width of the streams in the order of the training; None if that is not certain.

    features: width of all together. known: widths of the streams that the data's configuration has, by name, in the
    order of QD-DETR's own run, which is taken if the options have no `v_feat_dirs`.
    """
    if given.get("a_feat_dim"):
        return None  # sound comes after the clips' places in these trainings, and before them in this project
    folders = folders_of(given)
    usual = {**USUAL, **known}
    names = [_name(PurePosixPath(folder).name, usual) for folder in folders]
    if not set(names) & usual.keys() and (not folders or sum(known.values()) == features):
        return _by_width(features, known)  # such as TVSum's two streams, which lie in one folder
    widths = {name: usual.get(name) for name in names}
    unknown = [name for name, width in widths.items() if width is None]
    if len(unknown) == 1:
        widths[unknown[0]] = features - sum(width for width in widths.values() if width)
    fits = len(widths) == len(folders) and len(unknown) <= 1 and all(width > 0 for width in widths.values())
    return widths if fits and sum(widths.values()) == features else None


def _by_width(features: int, known: Mapping[str, int]) -> dict[str, int] | None:
    choices = [dict(known), *({name: width} for name, width in known.items())]
    return next((streams for streams in choices if sum(streams.values()) == features), None)


def _name(folder: str, known: Mapping[str, int]) -> str:
    """The known stream that a folder of features means, else the folder's own name."""
    kinds = ("slowfast", "clip")  # in this order
    kind = next((kind for kind in kinds if kind in folder), None)
    return next((name for name in known if kind and kind in name), folder)
