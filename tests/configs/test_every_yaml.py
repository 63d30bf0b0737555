"""Every shipped YAML composes and is valid, alone and in the combinations that the README promises."""

import re
from collections.abc import Callable

import pytest
from omegaconf import DictConfig, OmegaConf

from configs import targets
from configs.extras import missing_extra
from configs.schema import validate
from tests.composing import CONFIGS

Compose = Callable[..., DictConfig]

PRIMARY = {"train", "eval"}
SCALES = ("paper", "mini", "smoke")


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


BUILT = {"experiment", "scale", "mask", "logger", "trainer"}  # test_every_yaml_builds checks and builds these
BUILT |= {"tuned"}  # follows from scale, task and mask; tests/scripts/test_tune.py composes each


def choices() -> list[str]:
    """`group=option` for every YAML file that a group offers and that no other test chooses."""
    files = sorted(path.relative_to(CONFIGS) for path in CONFIGS.rglob("*.yaml"))
    others = [file for file in files if file.parts[0] not in BUILT | {"local"} and file.stem not in PRIMARY]
    return [f"{file.parent}={file.stem}" for file in others]


def experiment_of(group: str, option: str) -> str | None:
    """An experiment with that task or data set, or with another data set that the same data module reads.

    None if there is none yet.
    """
    notes = {
        name: (CONFIGS / "experiment" / f"{name}.yaml").read_text(encoding="utf-8") for name in options("experiment")
    }
    same = {option}
    if group == "data":
        parents = OmegaConf.load(CONFIGS / "data" / f"{option}.yaml").get("defaults", [])
        same |= {name for name in parents if isinstance(name, str)}
    found = (name for name, text in notes.items() if any(f"override /{group}: {one}\n" in text for one in same))
    return next(found, None)


def as_overrides(choice: str) -> list[str]:
    """The overrides that choose it: a task or a data set comes with its experiment."""
    group, option = choice.split("=")
    if group in ("task", "data"):
        experiment = experiment_of(group, option)
        return [choice, f"experiment={experiment}"] if experiment else [choice, "num_keys=null"]
    return [choice]


@pytest.mark.parametrize("choice", choices())
def test_every_yaml_composes_and_is_valid(compose_run: Compose, choice: str) -> None:
    if (missing := missing_extra([choice])) is not None:
        pytest.skip(missing)
    cfg = compose_run(*as_overrides(choice))
    validate(cfg)
    OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)


@pytest.mark.parametrize("experiment", options("experiment"))
def test_every_experiment_gives_its_command_and_its_expected_figure(experiment: str) -> None:
    note = (CONFIGS / "experiment" / f"{experiment}.yaml").read_text(encoding="utf-8")
    assert f"python train.py experiment={experiment}" in note
    assert "# Expected" in note


@pytest.mark.parametrize("task", options("task"))
@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_says_what_it_means_for_every_task(scale: str, task: str) -> None:
    assert (CONFIGS / "scale" / scale / f"{task}.yaml").is_file()


def test_every_target_in_a_yaml_can_be_imported() -> None:
    for target, places in targets.shipped().items():
        for place in places:
            assert callable(targets.resolve(place.replace("*", "here"), target))


def test_no_scale_means_the_paper_s(compose_run: Compose) -> None:
    unsaid = compose_run("experiment=madv2_multi_lcaam")
    said = compose_run("experiment=madv2_multi_lcaam", "scale=paper")
    assert OmegaConf.to_yaml(unsaid) == OmegaConf.to_yaml(said)


@pytest.mark.parametrize("order", [1, -1])
def test_the_command_line_wins_over_scale_and_experiment(compose_run: Compose, order: int) -> None:
    overrides = ["experiment=madv2_multi_lcaam", "scale=mini", "mask.depth=5", "name=mine", "threads=2"]
    cfg = compose_run(*overrides[::order])
    assert (cfg.mask.depth, cfg.name, cfg.threads, cfg.mask.scope) == (5, "mine", 2, "per_layer")


def test_a_mask_on_the_command_line_wins_over_the_experiment_s(compose_run: Compose) -> None:
    cfg = compose_run("experiment=madv2_multi_lcaam", "mask=none", "scale=mini")
    validate(cfg)
    assert cfg.mask.scope == "none"


def test_the_three_masks_differ_only_where_their_names_say(compose_run: Compose) -> None:
    none, one, many = (compose_run(f"mask={name}").mask for name in ("none", "lcaam", "multi_lcaam"))
    assert (none.scope, one.scope, many.scope) == ("none", "shared", "per_layer")
    assert {key for key in one if one[key] != many[key]} == {"scope"}


def test_a_plain_compose_has_a_run_folder_of_its_own(compose_run: Compose, tmp_path) -> None:
    one, other = (compose_run("experiment=madv2_lcaam", "seed=3").paths.run_dir for _ in range(2))
    assert one != other
    assert re.fullmatch(rf"{tmp_path}/logs/madv2_lcaam/paper/seed3/[\d_-]+", one)


def test_a_resolved_folder_stays_the_same(compose_run: Compose) -> None:
    cfg = compose_run()
    assert cfg.paths.run_dir == cfg.paths.run_dir
    assert cfg.callbacks.checkpoint.dirpath == f"{cfg.paths.run_dir}/checkpoints"
