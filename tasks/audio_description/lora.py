"""Low-rank adapters inside the frozen language model (LoRA, arXiv:2106.09685), by peft (the extra `lora`).

add_lora(llm, LoRA(rank=8, targets=["q_proj", "v_proj"]))  # in place: W x becomes W x + alpha / rank B A x

They are used together with the gated prefix. Prefix keys and values go through adapted projections as well: they come
from the layer's own projections, which are now the adapted ones, and folding B A into W leaves the model the same. B
starts at zero, so the language model starts unchanged.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from configs.errors import ConfigError, listed, nearest
from configs.knobs import Count, Positive, Share, out_of_range

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
FUSED = ("qkv_proj", "gate_up_proj")  # Phi-3 has these in place of five of them
ALLOWED = PROJECTIONS + FUSED


@dataclass
class LoRA:
    """`task.llm.lora`. Raises ConfigError for values out of range.

    rank: the rank of B A. alpha: B A is multiplied by alpha / rank. dropout: the dropout of A's inputs.
    targets: names of linear layers, adapted in every layer of the language model.
    """

    rank: Count = 8
    alpha: Positive = 16.0
    dropout: Share = 0.0
    targets: list[Literal[ALLOWED]] = field(default_factory=lambda: ["q_proj", "v_proj"])

    def __post_init__(self):
        if problems := out_of_range(LoRA, vars(self), "task.llm.lora"):
            raise ConfigError("\n".join(problems))
        for name in self.targets:
            if name not in ALLOWED:
                hint = nearest(name, ALLOWED)
                raise ConfigError(f"task.llm.lora.targets: unknown {name!r}{hint} (allowed: {listed(ALLOWED)})")
        if not self.targets or len(set(self.targets)) < len(self.targets):
            given = listed(self.targets) or "an empty list"
            raise ConfigError(
                f"task.llm.lora.targets: {given}; wanted: one or more of {listed(ALLOWED)}, each once "
                "(no adapters: task.llm.lora=null)"
            )

    def adapts(self, name: str) -> bool:
        """Whether the linear layer of this name in a language model gets an adapter."""
        return name.rpartition(".")[2] in self.targets

    def shape(self) -> dict[str, Any]:
        """What two models must share to exchange adapters."""
        return {"rank": self.rank, "alpha": float(self.alpha), "targets": sorted(self.targets)}


def add_lora(llm: nn.Module, lora: LoRA) -> None:
    """Puts trained adapters, in float32, into a frozen language model.

    Raises ConfigError if the model lacks one of the layers to adapt, and if peft is not installed.
    """
    there = {name.rpartition(".")[2] for name, _ in llm.named_modules()} & {*ALLOWED}
    if absent := [name for name in lora.targets if name not in there]:
        raise ConfigError(
            f"task.llm.lora.targets: this {llm.config.model_type!r} model has no {listed(absent)}; allowed: "
            f"{listed(sorted(there))}"
        )
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ConfigError(
            f"task.llm.lora needs peft ({error}): pip install 'lcaam[lora]', or task.llm.lora=null"
        ) from error
    options = {"r": lora.rank, "lora_alpha": lora.alpha, "lora_dropout": lora.dropout}
    inject_adapter_in_model(LoraConfig(target_modules=list(lora.targets), **options), llm)
    for name, parameter in llm.named_parameters():
        if is_lora(name):
            parameter.data = parameter.data.float()  # peft gives them the frozen weights' type


def is_lora(name: str) -> bool:
    """Whether a parameter of this name belongs to an adapter."""
    return ".lora_" in name


def told(shape: dict[str, Any] | None) -> str:
    if shape is None:
        return "no LoRA (task.llm.lora=null)"
    targets = listed(shape["targets"])
    return f"LoRA (task.llm.lora={{rank: {shape['rank']}, alpha: {shape['alpha']:g}, targets: [{targets}]}})"
