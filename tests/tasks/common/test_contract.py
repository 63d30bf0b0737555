"""What a task and a data module owe the frame is asked for when the class is defined, and when a run is built."""

import pytest
from omegaconf import OmegaConf

from configs.errors import ConfigError
from datamodules.contract import Data, only_places
from datamodules.errors import DataError
from tasks.common.build import build_datamodule, build_module
from tasks.common.task import Task
from tests.tasks.common.tiny import TinyData, TinyTask


def without(owner: type, name: str) -> dict:
    return {key: value for key, value in vars(owner).items() if key != name and not key.startswith("__")}


@pytest.mark.parametrize(
    "name", ["headline", "logged", "row_id", "training_loss", "masks", "reference_scores", "parts", "flops", "analyse"]
)
def test_a_task_without_a_part_of_the_contract_cannot_be_defined(name: str) -> None:
    with pytest.raises(TypeError, match=rf"^Half lacks {name}; tasks/common/task\.py says"):
        type("Half", (Task,), without(TinyTask, name))


@pytest.mark.parametrize("name", ["prepare_data", "facts", "train_dataloader", "val_dataloader", "test_dataloader"])
def test_a_data_module_without_a_part_of_the_contract_cannot_be_defined(name: str) -> None:
    with pytest.raises(TypeError, match=rf"^Half lacks {name}; datamodules/contract\.py says"):
        type("Half", (Data,), without(TinyData, name))


def test_everything_that_is_lacking_is_named_at_once() -> None:
    with pytest.raises(TypeError, match="Nothing lacks headline, logged, row_id, analyse, flops, masks, parts"):
        type("Nothing", (Task,), {})


@pytest.mark.parametrize("node, base", [("data", "Data"), ("task", "Task")])
def test_another_class_is_refused_before_it_is_built(node: str, base: str) -> None:
    cfg = OmegaConf.create({node: {"_target_": "torch.nn.Identity"}, "mask": {}})
    with pytest.raises(ConfigError, match=rf"^{node}\._target_: torch\.nn\.Identity is not derived from {base} \("):
        build_datamodule(cfg) if node == "data" else build_module(cfg, TinyData())


def test_arguments_are_checked_by_their_annotations() -> None:
    with pytest.raises(ConfigError, match=r"^task\.lr: -1\.0 is out of range; allowed: a finite number above 0$"):
        TinyTask(mask={}, facts={"features": 2}, lr=-1.0)
    with pytest.raises(DataError, match=r"^data\.batch_size: 0 is out of range; allowed: at least 1$"):
        TinyData(batch_size=0)


def test_of_generated_data_the_places_do_not_count_and_of_real_data_the_root_does() -> None:
    target = "datamodules.audio_description.Descriptions"
    assert set(only_places({"_target_": target, "mini": {}})) == {"root", "num_workers", "speech_dir", "esc10_dir"}
    assert set(only_places({"_target_": target, "mini": None})) == {"num_workers", "speech_dir", "esc10_dir"}


def test_a_task_that_cannot_be_sharded_says_so() -> None:
    module = TinyTask(mask={}, facts={"features": 2})
    module.configure_model()  # no strategy asks for it
    module._device_mesh = object()
    with pytest.raises(ConfigError, match="trainer=fsdp: TinyTask cannot be sharded; allowed: trainer=ddp"):
        module.configure_model()
