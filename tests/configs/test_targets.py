"""What a configuration may name as a target: nothing that could be called for its effects, whoever wrote it."""

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator
from functools import cache

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger

from configs import targets
from configs.errors import ConfigError

PACKAGES = ("lcaam", "datamodules", "tasks")
PLACES = {
    "data": (pl.LightningDataModule,),
    "task": (pl.LightningModule,),
    "callbacks.x": (pl.Callback,),
    "logger.x": (Logger,),
    "data.root": (torch.nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler),
    "trainer.strategy": (torch.nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler),
}
FUNCTIONS = {
    "callbacks.x": {"tasks.common.progress.progress_bar"},
    "logger.x": {"tasks.common.loggers.csv_logger", "tasks.common.loggers.wandb_logger"},
}


@pytest.fixture(scope="module", autouse=True)
def _located_once() -> Iterator[None]:
    """A name leads to the same object at every place; the nearest names in the messages would take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(targets, "_locate", cache(targets._locate))
        patch.setattr(targets, "nearest", lambda *_: "")
        yield


@cache
def modules() -> list[str]:
    """Every module of the packages whose targets a configuration may name."""
    names = []
    for package in PACKAGES:
        inside = pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}.")
        names += [package, *(found.name for found in inside)]
    return [name for name in names if not name.endswith("__main__")]


@cache
def callables() -> dict[str, object]:
    """A dotted name of every callable in a module, and in a class that a module defines."""
    names = {}
    for module in modules():
        for name, value in vars(importlib.import_module(module)).items():
            if callable(value):
                names.setdefault(id(value), (f"{module}.{name}", value))
            if isinstance(value, type) and value.__module__ == module:
                for key, one in vars(value).items():
                    if callable(getattr(value, key)):
                        names.setdefault(id(one), (f"{module}.{name}.{key}", one))
    return dict(names.values())


def accepted(place: str) -> dict[str, object]:
    """The callables that may be named at a place."""
    found = {}
    for name in callables():
        try:
            found[name] = targets.resolve(place, name)
        except ConfigError:
            continue
    return found


@pytest.mark.parametrize("place", PLACES)
def test_of_all_callables_only_classes_of_the_place_s_bases_may_be_named(place: str) -> None:
    assert len(callables()) > 1500
    allowed = accepted(place)
    assert {name for name, value in allowed.items() if not isinstance(value, type)} == FUNCTIONS.get(place, set())
    classes = {name for name, value in allowed.items() if isinstance(value, type)}
    shipped = {name for name, places in targets.shipped().items() if targets.place_of(place) in places}
    assert {name for name in classes if not issubclass(allowed[name], PLACES[place])} <= shipped


def test_none_of_all_callables_is_called_by_naming_it() -> None:
    plain = (inspect.unwrap(getattr(value, "__func__", value)) for value in callables().values())
    plain = [value for value in plain if inspect.isfunction(value) and value.__module__.split(".")[0] in PACKAGES]
    watched = {value.__code__ for value in plain}
    called = []

    def watch(frame, event, argument) -> None:
        if event == "call" and frame.f_code in watched:
            called.append(frame.f_code.co_name)

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        accepted("task.lr")
    finally:
        sys.setprofile(before)
    assert called == []


@pytest.mark.parametrize(
    ("place", "target"),
    [
        ("data.root", "tasks.common.loggers.wandb_logger"),  # named in configs/logger/, so nowhere else
        ("callbacks.x", "tasks.common.loggers.csv_logger"),
        ("callbacks.x.y", "tasks.common.progress.progress_bar.__call__"),
        ("data", "tasks.moment_retrieval.module.MomentRetrieval"),
        ("task", "datamodules.moment_retrieval.Moments"),
        ("callbacks.x", "tasks.common.files.write_text"),
        ("logger", "pytorch_lightning.loggers.TensorBoardLogger.__init__"),
        ("data.x", "datamodules.moment_retrieval.Moments"),
        ("trainer.plugins[0]", "tasks.common.sweep.SweepTable"),
    ],
)
def test_a_target_of_another_place_is_refused(place: str, target: str) -> None:
    with pytest.raises(ConfigError, match="is not allowed|is not a class") as caught:
        targets.resolve(place, target)
    assert str(caught.value).startswith(f"{place}._target_: '{target}'")


def test_a_class_of_the_user_s_own_is_allowed_where_its_base_belongs() -> None:
    from tasks.common import non_finite

    class Mine(pl.Callback):
        pass

    Mine.__module__ = "tasks.common.non_finite"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(non_finite, "Mine", Mine, raising=False)
        assert targets.resolve("callbacks.mine", "tasks.common.non_finite.Mine") is Mine
        with pytest.raises(ConfigError, match="is a class, and what is built here is a class derived from"):
            targets.resolve("logger.mine", "tasks.common.non_finite.Mine")


def test_the_optimisers_of_torch_may_be_named_within_a_task() -> None:
    assert targets.resolve("task.optimizer", "torch.optim.AdamW") is torch.optim.AdamW
    scheduler = targets.resolve("task.scheduler", "torch.optim.lr_scheduler.CosineAnnealingLR")
    assert issubclass(scheduler, torch.optim.lr_scheduler.LRScheduler)
