"""One name for one setting: equal over its seeds and however it was asked for, another one for every other setting."""

import re
from collections.abc import Callable

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from configs.identity import setting_id
from configs.sweeping import cells, sweeper_of
from configs.words import DIGITS, LONGEST, asked, of_experiment, own_settings, setting_name
from tests.composing import CONFIGS

Compose = Callable[..., DictConfig]
SWEEPS = sorted(path.stem for path in (CONFIGS / "sweep").glob("*.yaml"))


DRAWN = {"search": {"task.lr": "0.001,0.002"}}  # in place of a range


def settings_of(sweep: str) -> tuple[list[tuple[str, ...]], list[str]]:
    """The overrides of every setting of a sweep, and its seeds."""
    sweeper, found = sweeper_of(sweep), {}
    for words in cells(sweeper["params"] | DRAWN.get(sweep, {}), sweeper["also"], []):
        seeds = [word for word in words if word.startswith("seed=")]
        found.setdefault(tuple(word for word in words if word not in seeds), []).extend(seeds)
    return list(found), next(iter(found.values())) or ["seed=0", "seed=1"]


@pytest.mark.parametrize("sweep", SWEEPS)
def test_every_setting_of_a_sweep_has_a_name_of_its_own_which_its_seeds_share(compose_run: Compose, sweep: str) -> None:
    settings, seeds = settings_of(sweep)
    experiment = [] if any(word.startswith("experiment=") for word in settings[0]) else ["experiment=madv2_lcaam"]
    found = {}
    for overrides in settings:
        plain = OmegaConf.to_container(compose_run(*experiment, *overrides, "scale=mini"), resolve=True)
        (name,) = {setting_name(plain | {"seed": int(seed[5:])}) for seed in (seeds[0], seeds[-1])}
        assert name not in found, f"{overrides} and {found.get(name)}"
        found[name] = overrides
        assert name.endswith(setting_id(plain)[:DIGITS])
        assert re.fullmatch(r"[A-Za-z0-9._-]+", name) and len(name) <= LONGEST + DIGITS + 1
    assert len(seeds) > 1 and len(found) == len(settings)


def test_a_setting_has_one_name_however_it_was_asked_for(compose_run: Compose) -> None:
    plain = compose_run("experiment=qvhighlights_lcaam", "scale=mini")
    said = compose_run("experiment=qvhighlights_lcaam", "scale=mini", f"mask.depth={plain.mask.depth}", "seed=4")
    assert setting_name(plain) == setting_name(said) and own_settings(said) == []
    short = setting_name(plain).rpartition("-")[0]
    assert short == "qvhighlights_lcaam-mini"


def test_a_name_says_what_differs_from_the_experiment(compose_run: Compose) -> None:
    cfg = compose_run("experiment=imagenet1k_lcaam", "scale=mini", "data.fraction=0.25", "mask.fusion=add")
    assert sorted(own_settings(cfg)) == ["data.fraction=0.25", "mask.fusion=add"]
    assert setting_name(cfg).startswith("imagenet1k_lcaam-mini-fusion_add-fraction_0.25-")


def test_what_changes_no_result_changes_no_name(compose_run: Compose) -> None:
    one = compose_run("experiment=madv2_lcaam", "scale=smoke", "seed=3", "data.num_workers=0")
    two = compose_run("experiment=madv2_lcaam", "scale=smoke", "logger=csv", "paths.run_dir=x", "data.num_workers=2")
    assert setting_name(one) == setting_name(two)


def test_a_long_name_is_cut_between_words_and_keeps_its_hash(compose_run: Compose) -> None:
    words = [
        "mask.depth=3",
        "mask.hidden=24",
        "mask.fusion=temper",
        "mask.rank=2",
        "mask.init=kaiming",
        "task.lr=0.001",
    ]
    name = setting_name(compose_run("experiment=madv2_multi_lcaam", "scale=smoke", *words, "data.seed=7"))
    assert len(name) <= LONGEST + 1 + DIGITS and re.search(r"-[a-z_]+_[\w.]+-[0-9a-f]{8}$", name)


def test_without_an_experiment_the_hash_is_left(compose_run: Compose) -> None:
    cfg = compose_run("scale=smoke", "data=qvhighlights", "task=moment_retrieval", "mask.scope=shared", "name=my own")
    assert own_settings(cfg) == []
    assert re.fullmatch(r"my_own-smoke-[0-9a-f]{8}", setting_name(cfg))


def test_composing_the_experiment_leaves_a_running_application_alone() -> None:
    of_experiment.cache_clear()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        running = GlobalHydra.instance().hydra
        assert of_experiment("madv2_lcaam", "smoke")["name"] == "madv2_lcaam"
        assert running is not None and GlobalHydra.instance().hydra is running


def test_the_words_of_a_command_line_without_what_the_title_has_anyway() -> None:
    given = [
        "experiment=a",
        "++mask.depth=3",
        "mask=lcaam",
        "++seed=1",
        "++paths.log_dir=x",
        "++resume=null",
        "sweep=b",
    ]
    given += ["scale=mini", "++trainer.enable_progress_bar=false", "++trainer.max_steps=8", "~logger.wandb"]
    assert asked(given) == ["mask.depth=3", "mask=lcaam", "trainer.max_steps=8"]
