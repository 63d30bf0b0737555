"""What a training step of a describer keeps in GPU memory, computed from the configuration: no GPU, no weights needed.

    python -m scripts.memory experiment=madv2_multi_lcaam
    python -m scripts.memory experiment=madv2_multi_lcaam data.batch_size=32 row_tokens=300

`row_tokens`: prompt, context and description together. Parameters are counted; what autograd keeps of the encoder, the
masks and the bridge is counted on two random samples on the CPU; of the language model it is a formula, which a test
compares with autograd. Not in it: CUDA's context, fragments, work space and short-lived tensors, such as 4-bit weights
unpacked, and the scores that a model with a softcap (Gemma 2) keeps. The language model is built on the meta device,
which takes no memory. One that is not a local folder is taken to have LLaMA-7B's sizes.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from transformers import LlamaConfig

from configs.composing import composed
from configs.schema import ConfigError, validate
from tasks.audio_description.language_model import LLAMA_7B
from tasks.audio_description.lora import LoRA
from tasks.audio_description.projections import places
from tasks.common.errors import CheckpointError
from tasks.common.pretrained import from_pretrained

BYTES = {"auto": 2, "bfloat16": 2, "float16": 2, "float32": 4}
# bytes of a weight: 8 bits, or 4 bits with a byte for each 64 weights and 4 bytes for each 256 of those bytes
QUANTISED = {"int8": 1.0, "nf4": 0.5 + 1 / 64 + 4 / (64 * 256)}
SAMPLES = 2


def memory(cfg: DictConfig, row_tokens: int = 32) -> dict[str, float]:
    """Gigabytes (1e9 bytes) by part, in bf16-mixed precision, for `data.batch_size` rows of `row_tokens` tokens."""
    from tasks.common.build import build

    llm = OmegaConf.to_container(cfg.task.llm, resolve=True)
    model = on_meta(llm)
    sizes = model.config
    facts = {"video_dim": cfg.data.video_dim, "audio_dim": cfg.data.audio_dim, "tokens": cfg.data.tokens}
    facts["train_texts"] = ["a word"]
    mask = OmegaConf.to_container(cfg.mask, resolve=True)

    def describer(**changes: Any) -> nn.Module:
        return build(OmegaConf.merge(cfg.task, changes), mask=mask, facts=facts).model

    plain = {"pretrained": None, "quantization": "none", "lora": None}
    with torch.device("meta"):
        skeleton = {"hidden_size": sizes.hidden_size, "num_attention_heads": sizes.num_attention_heads}
        skeleton |= {"num_hidden_layers": cfg.task.prefix_layers, "intermediate_size": 8}
        parts = describer(llm={"config": skeleton, **plain}).parts()
    language_model = sum(p.numel() for p in model.parameters())
    head = model.get_output_embeddings()
    projections = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear) and m is not head}
    frozen = llm["pretrained"] is not None and llm["frozen"]
    adapters = sum(count for name, count in parts.items() if name != "language_model")
    lora = LoRA(**llm["lora"]) if llm.get("lora") else None
    low_rank = sum(lora_weights(lora, m) for name, m in projections.items() if lora and lora.adapts(name))
    trained = adapters + low_rank + (0 if frozen else language_model)
    weights = language_model * (BYTES[llm["dtype"]] if llm["pretrained"] is not None else 4)
    if (kind := llm.get("quantization", "none")) != "none":
        weights -= sum(m.weight.numel() for m in projections.values()) * (BYTES[llm["dtype"]] - QUANTISED[kind])
    tiny = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 8}
    before = describer(llm={"config": tiny, **plain}, prefix_layers=1)
    rows, tokens = cfg.data.batch_size, cfg.data.batch_size * row_tokens
    layers = cfg.task.prefix_layers if frozen and lora is None else sizes.num_hidden_layers
    layer = layer_bytes(model, kind, lora)
    kept = layer + (layers - 1) * 2 * sizes.hidden_size if llm["gradient_checkpointing"] else layers * layer
    found = {
        "language model's weights": weights,
        "adapters' weights (encoder, masks, bridge)": 4 * adapters,
        **({"LoRA's weights": 4 * low_rank} if lora else {}),
        "gradients": 4 * trained,
        "AdamW's two moments": 8 * trained,
        "activations of the language model": tokens * kept,
        "logits and their gradient": tokens * sizes.vocab_size * (2 + 4 + 4),
        "activations of encoder, masks, bridge": rows * adapter_bytes(before, cfg) // SAMPLES,
    }
    return {name: value / 1e9 for name, value in {**found, "sum": sum(found.values())}.items()}


def layer_bytes(llm: nn.Module, quantization: str = "none", lora: LoRA | None = None) -> int:
    """What autograd keeps of one bf16 layer with a prefix, per token, at most.

    2 bytes per number: queries, keys, values (as many heads as queries), both attentions' outputs, one vector of the
    width and three of the feed-forward width; and 4 bytes for each input of a norm. Inputs of frozen linear layers are
    not kept, since those weights need no gradient. But bitsandbytes' int8 layers keep theirs, and each LoRA keeps its
    input and its `rank` numbers.
    """
    sizes, place = llm.config, places(llm)[-1]
    attention, layer = llm.get_submodule(place.attention), llm.get_submodule(place.layer)
    width, feedforward = sizes.hidden_size, sizes.intermediate_size
    heads = sizes.num_attention_heads * attention.head_dim
    normed = {"q_norm": heads, "k_norm": sizes.num_key_value_heads * attention.head_dim}
    norms = [name.rpartition(".")[2] for name, part in layer.named_modules() if type(part).__name__.endswith("Norm")]
    found = 2 * width + 10 * heads + 6 * feedforward + 4 * sum(normed.get(name, width) for name in norms)
    if quantization == "int8":  # queries, keys and values share one input, and so do gate and up of the feed-forward
        found += 2 * (2 * width + heads + feedforward)
    for target in lora.targets if lora else ():
        inputs = {"down_proj": feedforward, "o_proj": heads}.get(target, width)
        found += 2 * (inputs + lora.rank)
    return found


def lora_weights(lora: LoRA, projection: nn.Linear) -> int:
    """Parameters of one pair of low-rank matrices."""
    return lora.rank * (projection.in_features + projection.out_features)


def adapter_bytes(model: nn.Module, cfg: DictConfig) -> int:
    """What autograd keeps of encoder, masks and bridge for `SAMPLES` samples."""
    shape = (SAMPLES, cfg.data.tokens)
    video, audio = torch.randn(*shape, cfg.data.video_dim), torch.randn(*shape, cfg.data.audio_dim)
    keep = torch.ones(shape, dtype=torch.bool)
    with torch.autocast("cpu", torch.bfloat16):
        return saved_bytes(model, lambda: model.prefix(video, audio, keep, keep)["prefix"].prompts)


def saved_bytes(model: nn.Module, forward: Callable[[], object]) -> int:
    """Bytes that autograd keeps between the two passes; each storage counts once, and weights do not count."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = forward()
    del result
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def on_meta(llm: dict[str, Any]) -> nn.Module:
    """The language model without its weights: a local folder's, that of task.llm.config, or LLaMA-7B."""
    from tasks.audio_description.family import check_layout, family_of
    from tasks.audio_description.prefix import PrefixLlama

    name = llm["pretrained"]
    if name is not None and Path(name).is_dir():
        check_layout(name)
        with from_pretrained("task.llm.pretrained", name, "a language model", "config.json"):
            family, config = family_of(name)
    else:
        given = {} if name is not None else llm["config"] or {}
        given = {key: value for key, value in given.items() if value is not None}
        family, config = PrefixLlama, LlamaConfig(vocab_size=32000, **LLAMA_7B | given)
    with torch.device("meta"):
        return family(config)


def main(arguments: list[str]) -> None:
    """The command line: an error that explains itself is printed without a stack trace."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(__doc__)
        return
    own = [argument for argument in arguments if argument.startswith("row_tokens=")]
    try:
        cfg = composed(*(argument for argument in arguments if argument not in own))
        validate(cfg)
        if "llm" not in cfg.task:
            raise ConfigError("the chosen task has no language model; choose experiment=madv2_baseline or one like it")
        given = own[-1].partition("=")[2] if own else "32"
        if not (given.isdecimal() and int(given)):
            raise ConfigError(f"row_tokens={given}: a whole number from 1 on is wanted")
        found = memory(cfg, int(given))
    except (HydraException, ConfigError, CheckpointError) as error:
        sys.exit(str(error))
    print(f"{cfg.name}, batch of {cfg.data.batch_size} rows of {given} tokens; computed, not measured on a GPU")
    for name, value in found.items():
        print(f"{value:9.3f} GB  {name}")


if __name__ == "__main__":
    main(sys.argv[1:])
