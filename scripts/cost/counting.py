"""A row's model and input; its parameters and FLOPs on the meta device: shapes without numbers, so LLaMA-7B is free.

    inputs = Inputs(cfg)
    module = built(cfg, inputs, "meta")
    counted(cfg, module, inputs.batch(module, tokens=254))  # {"parameters": ..., "flops": ..., "flops_by_module": ...}

FLOPs are tasks.common.flops': 2 per multiply-add of one forward pass of one sample, matrix products and attention only,
attention as its two products whatever kernel would run. MACs are half of them.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaForCausalLM

from scripts.cost.hooks import batch_of, hooks_of, is_generated, stand_in_of
from tasks.common.build import build, build_datamodule

OTHER = "other"  # FLOPs outside the model's children


class Inputs:
    """Facts and one sample, from the real data module if it generates its data, else stand-ins.

    Raises ConfigError for a data module that has no stand-in.
    """

    def __init__(self, cfg: DictConfig):
        self.cfg, self.generated = cfg, is_generated(cfg)
        if self.generated:
            datamodule = build_datamodule(cfg)
            self.facts = datamodule.facts()
            datamodule.setup()
            self.first = {name: value[:1] for name, value in next(iter(datamodule.test_dataloader())).items()}
        else:
            self.stand_in = stand_in_of(cfg)
            self.facts = self.stand_in.facts

    def batch(self, module: nn.Module, tokens: int) -> dict[str, Any]:
        """One sample on the module's device; if it is a stand-in, the module reads `tokens` tokens of text."""
        sample = self.sample(module.device)
        return (
            sample if self.generated else self.sample(module.device, hooks_of(self.cfg).words(module, sample, tokens))
        )

    def sample(self, device: torch.device, words: int = 1) -> dict[str, Any]:
        """One sample; if it is a stand-in, it has a text of `words` words."""
        return moved(self.first if self.generated else batch_of(self.stand_in, words), device)


def moved(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    return {name: value.to(device) if torch.is_tensor(value) else value for name, value in batch.items()}


def built(cfg: DictConfig, inputs: Inputs, device: str, small: bool = False) -> nn.Module:
    """The task's module on `device` in evaluation mode, without a download. The configuration is not changed.

    small: parts that are too large to be built are cut down (CostHooks.shrink).
    """
    task, copy = hooks_of(cfg), cfg.copy()
    with open_dict(copy):
        if small:
            task.shrink(copy.task)
        keywords = task.prepare(copy.task, inputs.generated)
    torch.manual_seed(0)
    with torch.device(device):
        mask = OmegaConf.to_container(cfg.mask, resolve=True)
        module = build(copy.task, mask=mask, facts=inputs.facts, **keywords)
    if device == "meta":
        for part in module.modules():
            if isinstance(part, LlamaForCausalLM):
                part.register_forward_pre_hook(with_causal_mask, with_kwargs=True)
    elif not small:
        task.precision(module, cfg.task)
    return module.eval()


def with_causal_mask(llm: nn.Module, args: tuple, keywords: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """Without a mask transformers reads the values of position_ids, which do not exist on the meta device."""
    length = keywords["input_ids"].shape[1]
    mask = torch.ones(1, 1, length, length, dtype=torch.bool, device="meta")
    return args, keywords | {"attention_mask": mask}


def counted(cfg: DictConfig, module: nn.Module, batch: dict[str, Any]) -> dict[str, Any]:
    """parameters: by part, as the module's parts(). flops: its flops(batch). flops_by_module: where they are spent."""
    with FlopCounterMode(display=False) as counter, by_child(hooks_of(cfg).root(module), counter) as spent:
        flops = module.flops(batch)
    spent[OTHER] = flops - sum(spent.values())
    return {"parameters": module.parts(), "flops": flops, "flops_by_module": {k: v for k, v in spent.items() if v}}


@contextmanager
def by_child(root: nn.Module, counter: FlopCounterMode) -> Iterator[dict[str, int]]:
    """Fills a dict of the root's children with the FLOPs that `counter` sees while they run."""
    spent: dict[str, int] = {}
    with ExitStack() as hooks:
        for name, child in root.named_children():
            spent[name] = 0
            for part in child if isinstance(child, nn.Sequential | nn.ModuleList) else (child,):
                start: list[int] = []

                def begin(*_, start=start):
                    start.append(counter.get_total_flops())

                def end(*_, start=start, name=name):
                    spent[name] += counter.get_total_flops() - start.pop()

                hooks.callback(part.register_forward_pre_hook(begin).remove)
                hooks.callback(part.register_forward_hook(end).remove)
        yield spent
