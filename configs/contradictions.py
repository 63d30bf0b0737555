"""Settings that are each allowed and do not go together. One function a rule; each returns what to tell the user.

A rule looks only at keys that are there, so it holds for every task and data set that has them.
"""

import logging
from collections.abc import Iterator
from typing import Any

from configs.errors import listed
from configs.ranges import out_of_range
from configs.resolvers import ROOT

log = logging.getLogger(__name__)

COUNTS = {"batch_size", "tokens", "width", "layers", "heads", "feedforward"}


def contradictions(cfg: dict[str, Any]) -> list[str]:
    """Every contradiction of a resolved configuration whose types are already right."""
    return [problem for rule in RULES for problem in rule(cfg)]


def mask_without_fusion(cfg: dict[str, Any]) -> Iterator[str]:
    """A mask that is computed and never used is a mistake; a fusion without a mask changes nothing: harmless."""
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
    """A mask of fixed length has a column per key; with fewer it cannot cover the data."""
    mask, keys = cfg["mask"], keys_by_place(cfg)
    if mask["scope"] == "none" or mask["length"] != "fixed" or mask["num_keys"] is None or not keys:
        return
    place, most = max(keys.items(), key=lambda item: item[1])
    if mask["num_keys"] < most:
        where = f" in {place}" if place else ""
        yield (
            f"mask.num_keys: {mask['num_keys']} is fewer than the {most} keys of the data{where}: a mask of fixed "
            "length must be at least as wide; leave mask.num_keys=null to fit the data"
        )


def keys_by_place(cfg: dict[str, Any]) -> dict[str, int]:
    """Keys that a masked query sees, by attention; {"": num_keys} for a task with one kind. Empty: not known."""
    keys, clips = cfg.get("num_keys"), cfg["data"].get("max_clips")
    places = cfg["task"].get("masked")
    if places is None or clips is None:
        return {} if keys is None else {"": keys}
    known = {"text_to_video": keys, "encoder": clips + 1, "decoder": clips}  # the encoder has a global token as well
    return {place: known[place] for place in places if known[place] is not None}


def masked_places_are_used(cfg: dict[str, Any]) -> Iterator[str]:
    """Where a task lets one choose, masks (or the control in their place) must be somewhere, and nowhere twice."""
    mask, places = cfg["mask"], cfg["task"].get("masked")
    if places is None or mask["scope"] == "none":
        return
    if not places:
        yield (
            f"task.masked: [] with mask.scope={mask['scope']}: there would be no mask; name an attention, or choose "
            "mask=none"
        )
    if twice := sorted({place for place in places if places.count(place) > 1}):
        yield f"task.masked: {', '.join(twice)} is listed more than once in {list(places)}"
    if mask["control"] == "extra_layers" and "decoder" in places:
        yield (
            "mask.control: extra_layers with task.masked=decoder: the decoder takes no additional layers; choose "
            "mask=extra_linear, or leave decoder out of task.masked"
        )


def backend_computes_the_fusion(cfg: dict[str, Any]) -> Iterator[str]:
    """torch's fused attention adds to scores and does not multiply them."""
    from lcaam import Fusion

    mask, backend = cfg["mask"], cfg["task"].get("backend")
    used = mask["scope"] != "none" and mask["control"] == "none"
    if backend == "sdpa" and used and Fusion.parse(mask["fusion"]).multiplies:
        yield (
            f"task.backend: sdpa cannot compute mask.fusion={mask['fusion']}, which multiplies scores; allowed: auto, "
            "reference, chunked"
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


def controls_match_a_mask(cfg: dict[str, Any]) -> Iterator[str]:
    """A control has as many parameters as the masks that the rest of the node describes."""
    mask = cfg["mask"]
    if mask["control"] != "none" and mask["scope"] == "none":
        yield (
            f"mask.control: {mask['control']} with mask.scope=none has no parameters to match; choose the masks it "
            "stands for, e.g. mask.scope=per_layer"
        )


def interpolated_masks_see_whole_sequences(cfg: dict[str, Any]) -> Iterator[str]:
    """Columns are resized to the number of keys, padding included, so a query's would depend on its batch."""
    mask, places = cfg["mask"], cfg["task"].get("masked")
    if mask["length"] == "interpolate" and mask["scope"] != "none" and places:
        yield (
            f"mask.length: interpolate with task.masked={places}: texts and videos of a batch differ in length; "
            "allowed: mask.length=fixed, mask.length=content"
        )


def counts_are_positive(cfg: dict[str, Any]) -> Iterator[str]:
    """Sizes and numbers of things."""
    for node in ("data", "task"):
        for key in COUNTS & cfg[node].keys():
            value = cfg[node][key]
            if isinstance(value, int) and value < 1:
                yield f"{node}.{key}: {value} is too small; the least is 1"


def heads_divide_width(cfg: dict[str, Any]) -> Iterator[str]:
    """Each head gets width / heads features."""
    width, heads = cfg["task"].get("width"), cfg["task"].get("heads")
    if width and heads and heads > 0 and width % heads:
        allowed = ", ".join(str(n) for n in range(1, min(width, 64) + 1) if width % n == 0)
        yield f"task.heads: {heads} does not divide task.width={width}; allowed: {allowed}"


def positions_need_four_parts(cfg: dict[str, Any]) -> Iterator[str]:
    """A span's position is the sine and cosine of its centre and its width, each a quarter of the features."""
    width = cfg["task"].get("width")
    if "first_spans" in cfg["task"] and width and width % 4:
        below = width // 4 * 4
        yield (
            f"task.width: {width} is no multiple of 4, as the positions of spans need; the nearest are "
            f"{f'{below} and ' * (below > 0)}{below + 4}"
        )


def bridge_heads_divide_width(cfg: dict[str, Any]) -> Iterator[str]:
    """The queries of the bridge attend with width / bridge_heads features a head; a bridge of tokens has no heads."""
    task = cfg["task"]
    width, heads = task.get("width"), task.get("bridge_heads")
    if task.get("bridge") == "queries" and width and heads and heads > 0 and width % heads:
        allowed = ", ".join(str(n) for n in range(1, min(width, 64) + 1) if width % n == 0)
        yield (
            f"task.bridge_heads: {heads} does not divide task.width={width} (task.bridge=queries); allowed: {allowed}"
        )


def prefix_fits_language_model(cfg: dict[str, Any]) -> Iterator[str]:
    """The prefix is read by the last layers of a language model whose size is written here, if it is from scratch."""
    llm, layers = cfg["task"].get("llm") or {}, cfg["task"].get("prefix_layers")
    there_are = (llm.get("config") or {}).get("num_hidden_layers")
    if llm.get("pretrained") is None and layers and there_are and layers > there_are:
        yield (
            f"task.prefix_layers: {layers} is more than the language model has; allowed: 1 to {there_are} "
            f"(task.llm.config.num_hidden_layers={there_are})"
        )


def language_model_heads_fit(cfg: dict[str, Any]) -> Iterator[str]:
    """Of a language model from scratch each head has hidden_size / heads features, in pairs that positions rotate."""
    sizes = (cfg["task"].get("llm") or {}).get("config") or {}
    width, heads, shared = (sizes.get(name) for name in ("hidden_size", "num_attention_heads", "num_key_value_heads"))
    if width and heads and min(width, heads) > 0 and width % (2 * heads):
        yield (
            f"task.llm.config.num_attention_heads: {heads} does not divide task.llm.config.hidden_size={width} into "
            "heads of an even number of features"
        )
    if heads and shared and min(heads, shared) > 0 and heads % shared:
        yield (
            f"task.llm.config.num_key_value_heads: {shared} does not divide task.llm.config.num_attention_heads={heads}"
        )


def groups_are_one_or_heads(cfg: dict[str, Any]) -> Iterator[str]:
    """One mask for all heads (the paper), or one per head."""
    groups, heads = cfg["mask"]["groups"], cfg["task"].get("heads")
    if heads and groups not in (1, heads):
        yield f"mask.groups: {groups} is neither 1 (one mask for all heads) nor task.heads={heads} (one per head)"


def words_fit_the_caption(cfg: dict[str, Any]) -> Iterator[str]:
    """A caption is [CLS], words and [SEP]: BERT has a position for each, and none can be written that is longer."""
    task = cfg["task"]
    longest, positions = task.get("text_tokens"), task.get("positions")
    if longest and positions and 3 <= positions < longest:
        yield (
            f"task.text_tokens: {longest} is more than task.positions={positions}, BERT's places for words; allowed: 3 "
            f"to {positions}"
        )
    written = (task.get("decoding") or {}).get("max_length")
    if longest and written and 2 <= longest < written:
        yield (
            f"task.decoding.max_length: {written} is more than task.text_tokens={longest}, the longest caption of "
            f"training; allowed: 2 to {longest}"
        )


def captioning_masks_grow_with_the_caption(cfg: dict[str, Any]) -> Iterator[str]:
    """A mask of [video; text] keeps its columns while words are written; a kind that cannot grow covers the video."""
    from lcaam.stack import KINDS

    mask, longest = cfg["mask"], cfg["task"].get("text_tokens")
    if longest is None or mask["scope"] == "none":
        return
    if not KINDS[mask["kind"]].grows:
        if mask["num_keys"] is not None:
            yield (
                f"mask.num_keys: {mask['num_keys']} with mask.kind={mask['kind']}: it covers the video's tokens; "
                "allowed: null"
            )
    elif mask["length"] == "interpolate":
        yield (
            "mask.length: interpolate would move a mask's columns with every word that is written; allowed: fixed, "
            "content"
        )


def backbone_has_a_size_or_its_parts(cfg: dict[str, Any]) -> Iterator[str]:
    """Video Swin: torchvision's sizes, or stages of one's own, the features doubled from stage to stage."""
    backbone = cfg["task"].get("backbone") or {}
    if not backbone or cfg["data"].get("source") == "features":
        return
    size, own = backbone.get("size", "base"), {name: backbone.get(name) for name in ("embed_dim", "depths", "heads")}
    lacking = [f"task.backbone.{name}" for name, value in own.items() if value is None]
    if size is not None and len(lacking) < len(own):
        yield (
            f"task.backbone.size: {size} has its own embed_dim, depths and heads; set those to null, or "
            "task.backbone.size=null"
        )
    if size is None and lacking:
        yield f"task.backbone.size: null needs {', '.join(lacking)} as well; or choose tiny, small or base"
    if size is not None or lacking:
        return
    width, depths, heads = own.values()
    if len(depths) != len(heads) or sum(depths) < 2:
        yield (
            f"task.backbone.depths: {list(depths)} with task.backbone.heads={list(heads)}: both have a number for each "
            "stage, and there are at least 2 blocks"
        )
    for stage, number in enumerate(heads):
        if number > 0 and width * 2**stage % number:
            yield (
                f"task.backbone.heads: {number} does not divide the {width * 2**stage} features of stage {stage + 1} "
                f"(task.backbone.embed_dim={width}, doubled from stage to stage)"
            )


def sounds_need_generated_data(cfg: dict[str, Any]) -> Iterator[str]:
    """`data.sounds` and `data.speech_dir` say what a generated sound track is made of."""
    data = cfg["data"]
    sounds, folder = data.get("sounds"), data.get("speech_dir")
    if "mini" in data and data["mini"] is None and (sounds is not None or folder is not None):
        given = f"data.sounds={sounds}" if sounds is not None else f"data.speech_dir={folder}"
        yield (
            f"{given}: belongs to generated data, and scale={cfg['scale_name']} reads the real data set; "
            "add scale=mini, or leave it out"
        )
    elif sounds == "speech" and folder is None:
        yield (
            "data.sounds: speech needs data.speech_dir=<the recordings/ folder of a checkout of the Free Spoken Digit "
            "Dataset> (docs/datasets.md); data.sounds=tones needs nothing"
        )
    elif folder is not None and sounds != "speech":
        yield f"data.speech_dir: is given, but data.sounds={sounds} does not use it; add data.sounds=speech"


def splits_that_a_run_needs(cfg: dict[str, Any]) -> Iterator[str]:
    """Every run ends with a test, and the best weights are found by validating."""
    data = cfg["data"]
    place = "annotations" if isinstance(data.get("annotations"), dict) else "splits"
    named = data.get(place)
    if "annotations" not in data or not isinstance(named, dict):
        return
    if named.get("test") is None:
        yield f"data.{place}.test: null: a run ends with a test; name what it is on"
    if named.get("val") is None and cfg.get("test_checkpoint") == "best":
        yield f"data.{place}.val: null with test_checkpoint=best, which validation finds; or use test_checkpoint=last"


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
    counts_are_positive,
    out_of_range,
    mask_without_fusion,
    mask_narrower_than_data,
    masked_places_are_used,
    backend_computes_the_fusion,
    interpolated_masks_see_whole_sequences,
    heads_divide_width,
    positions_need_four_parts,
    bridge_heads_divide_width,
    prefix_fits_language_model,
    language_model_heads_fit,
    groups_are_one_or_heads,
    kind_has_what_is_set,
    controls_match_a_mask,
    words_fit_the_caption,
    captioning_masks_grow_with_the_caption,
    backbone_has_a_size_or_its_parts,
    sounds_need_generated_data,
    splits_that_a_run_needs,
    best_checkpoint_is_saved,
    best_checkpoint_needs_a_validation,
)
