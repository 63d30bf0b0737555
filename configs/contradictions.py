"""Settings that are each allowed but cannot be combined. One function per rule; each yields what to tell the user.

The rules here hold for every task and data set that has the keys they look at. The rules of one task or one data set
belong to its class: `Task.rules` (tasks/common/task.py) and `Data.rules` (datamodules/contract.py).
"""

import logging
from collections.abc import Callable, Iterator
from inspect import signature
from typing import Any

from configs.errors import listed
from configs.resolvers import ROOT
from configs.targets import resolve

log = logging.getLogger(__name__)

Rule = Callable[[dict[str, Any]], Iterator[str]]


def contradictions(cfg: dict[str, Any]) -> list[str]:
    """Every contradiction of a resolved configuration whose types are already right."""
    owners = [owner(cfg, node) for node in ("task", "data")]
    rules = [*RULES, *(rule for owned in owners for rule in getattr(owned, "rules", ()))]
    return [problem for rule in rules for problem in rule(cfg)]


def owner(cfg: dict[str, Any], node: str) -> Callable | None:
    """The class that the configuration's `task` or `data` node names; None if the node names none."""
    target = cfg[node].get("_target_")
    return target and resolve(node, target)


def mask_without_fusion(cfg: dict[str, Any]) -> Iterator[str]:
    """A mask that is computed and never used is a mistake; a fusion without a mask changes nothing and is harmless."""
    from lcaam import Fusion

    mask = cfg["mask"]
    ignored = Fusion.parse(mask["fusion"]).ignores_mask
    if mask["scope"] != "none" and ignored:
        *others, last = (fusion.name for fusion in Fusion if not fusion.ignores_mask)
        yield (
            f"mask.fusion: {mask['fusion']} with mask.scope={mask['scope']}: the mask would be computed and never "
            f"used; choose mask.fusion={listed(others)} or {last}, or mask=none"
        )
    if mask["scope"] == "none" and not ignored:
        log.warning("mask.fusion=%s has no effect: there is no mask (mask.scope=none)", mask["fusion"])


def mask_narrower_than_data(cfg: dict[str, Any]) -> Iterator[str]:
    """A mask of fixed length has one column per key; with fewer columns it cannot cover the data."""
    mask, keys = cfg["mask"], masked_keys(cfg)
    if mask["scope"] == "none" or mask["length"] != "fixed" or mask["num_keys"] is None or not keys:
        return
    place, most = max(keys.items(), key=lambda item: item[1])
    if mask["num_keys"] < most:
        where = f" in {place}" if place else ""
        yield (
            f"mask.num_keys: {mask['num_keys']} is fewer than the {most} keys of the data{where}: a mask of fixed "
            "length must be at least as wide; leave mask.num_keys=null to fit the data"
        )


def masked_keys(cfg: dict[str, Any]) -> dict[str, int]:
    """Number of keys that a masked query sees, by the attention's name, as the task's class says.

    {"": num_keys} if the class does not say it; empty if the number is not known.
    """
    ask = getattr(owner(cfg, "task"), "masked_keys", None)
    if ask is not None:
        return ask(cfg)
    return {} if cfg.get("num_keys") is None else {"": cfg["num_keys"]}


def backend_computes_the_fusion(cfg: dict[str, Any]) -> Iterator[str]:
    """torch's fused attention adds to scores and does not multiply them."""
    from lcaam import Fusion

    mask, backend = cfg["mask"], cfg["task"].get("backend")
    used = mask["scope"] != "none" and mask["control"] == "none"
    if backend == "sdpa" and used and Fusion.parse(mask["fusion"]).multiplies:
        yield (
            f"task.backend: sdpa cannot compute mask.fusion={mask['fusion']}, which multiplies scores; allowed: auto, "
            "reference, chunked, triton"
        )
    if backend == "triton" and cfg["trainer"].get("accelerator") == "cpu":
        yield (
            "task.backend: triton runs on CUDA devices, and trainer.accelerator=cpu; allowed: auto, reference, sdpa, "
            "chunked"
        )


def kind_has_what_is_set(cfg: dict[str, Any]) -> Iterator[str]:
    """A kind of mask may have a form for some fusions only, and settings that other kinds do not have."""
    from lcaam.module import MaskModule
    from lcaam.stack import KINDS

    mask = cfg["mask"]
    name, kind = mask["kind"], KINDS[mask["kind"]]
    if kind.fusions is not None and mask["scope"] != "none" and mask["fusion"] not in kind.fusions:
        files = sorted(f"mask={path.stem}" for path in (ROOT / "configs" / "mask").glob(f"{name}_*.yaml"))
        yield (
            f"mask.fusion: {mask['fusion']} with mask.kind={name}; allowed: "
            f"{listed(f'{fusion} ({remark})' for fusion, remark in kind.fusions.items())}"
            f"{f'; shipped: {listed(files)}' if files else ''}"
        )
    have = {
        "hard": [name for name, kind in KINDS.items() if "hard" in kind.settings()],
        "sparsity": [name for name, kind in KINDS.items() if kind.sparsity_loss is not MaskModule.sparsity_loss],
    }
    for setting, kinds in have.items():
        if mask[setting] and name not in kinds:
            yield f"mask.{setting}: {mask[setting]} with mask.kind={name}; it belongs to mask.kind={' or '.join(kinds)}"


def settings_of_a_kind_are_in_range(cfg: dict[str, Any]) -> Iterator[str]:
    """A kind of mask may have settings of its own."""
    from lcaam.stack import KINDS

    mask = cfg["mask"]
    try:
        KINDS[mask["kind"]].check(mask)
    except ValueError as error:
        yield f"mask.{error}"


def blocks_are_of_modalities(cfg: dict[str, Any]) -> Iterator[str]:
    """A kind that has a number for each pair of modalities needs several; the task's class says which there are."""
    from lcaam.stack import KINDS

    mask, task = cfg["mask"], owner(cfg, "task")
    if mask["scope"] == "none" or "boundaries" not in signature(KINDS[mask["kind"]]).parameters:
        return
    if len(getattr(task, "modalities", ())) < 2:
        yield (
            f"mask.kind: {mask['kind']} is not applicable: the masked tokens of {getattr(task, '__name__', 'a task')} "
            "are of one modality, so there are no blocks; nearest: mask=temperature, mask=columns"
        )


def controls_match_a_mask(cfg: dict[str, Any]) -> Iterator[str]:
    """A control has as many parameters as the masks that the rest of the node describes."""
    mask = cfg["mask"]
    if mask["control"] != "none" and mask["scope"] == "none":
        yield (
            f"mask.control: {mask['control']} with mask.scope=none has no parameters to match; choose the masks it "
            "stands for, e.g. mask.scope=per_layer"
        )


def heads_divide_width(cfg: dict[str, Any]) -> Iterator[str]:
    """Each head gets width / heads features."""
    width, heads = cfg["task"].get("width"), cfg["task"].get("heads")
    if width and heads and heads > 0 and width % heads:
        allowed = ", ".join(str(n) for n in range(1, min(width, 64) + 1) if width % n == 0)
        yield f"task.heads: {heads} does not divide task.width={width}; allowed: {allowed}"


def groups_are_one_or_heads(cfg: dict[str, Any]) -> Iterator[str]:
    """One mask for all heads (the paper), or one per head."""
    groups, heads = cfg["mask"]["groups"], cfg["task"].get("heads")
    if heads and groups not in (1, heads):
        yield f"mask.groups: {groups} is neither 1 (one mask for all heads) nor task.heads={heads} (one per head)"


def validation_interval_is_positive(cfg: dict[str, Any]) -> Iterator[str]:
    """Lightning's val_check_interval counts batches, or is a share of the epoch; Lightning checks other types."""
    interval = cfg["trainer"].get("val_check_interval")
    if not isinstance(interval, int | float) or isinstance(interval, bool):
        return
    if not (interval >= 1 if isinstance(interval, int) else 0 < interval <= 1):
        yield (
            f"trainer.val_check_interval: {interval} is out of range; allowed: at least 1 batch, or a share of the "
            "epoch above 0.0 and at most 1.0"
        )


def best_checkpoint_is_saved(cfg: dict[str, Any]) -> Iterator[str]:
    """`test_checkpoint=best` needs a callback that keeps the best."""
    if cfg.get("test_checkpoint") != "best":
        return
    savers = [node for node in (cfg.get("callbacks") or {}).values() if node and "save_top_k" in node]
    if not any(node.get("monitor") and node["save_top_k"] != 0 for node in savers):
        yield (
            "test_checkpoint: best needs a checkpoint callback with a monitor (callbacks=default has one); "
            "or use test_checkpoint=last"
        )


def best_checkpoint_needs_a_validation(cfg: dict[str, Any]) -> Iterator[str]:
    """The best weights are found by validating; Lightning counts the interval in batches, max_steps in updates."""
    trainer = cfg["trainer"]
    interval, steps = trainer.get("val_check_interval"), trainer.get("max_steps")
    if cfg.get("test_checkpoint") != "best" or not (type(interval) is type(steps) is int) or steps < 0:
        return
    batches = steps * (trainer.get("accumulate_grad_batches") or 1)
    if interval > batches:
        yield (
            f"test_checkpoint: best with trainer.val_check_interval={interval} and trainer.max_steps={steps}: the run "
            f"ends before its first validation, which finds the best; allowed: an interval of at most {batches}, or "
            "test_checkpoint=last"
        )


RULES = (
    mask_without_fusion,
    mask_narrower_than_data,
    backend_computes_the_fusion,
    heads_divide_width,
    groups_are_one_or_heads,
    kind_has_what_is_set,
    settings_of_a_kind_are_in_range,
    blocks_are_of_modalities,
    controls_match_a_mask,
    validation_interval_is_positive,
    best_checkpoint_is_saved,
    best_checkpoint_needs_a_validation,
)
