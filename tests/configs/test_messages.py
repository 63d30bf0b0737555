"""What a mistake on the command line is answered with: one line that says what to write, before anything is built."""

import re
import subprocess
import sys
from collections.abc import Callable

import pytest
from omegaconf import DictConfig, OmegaConf

from configs.arguments import prepared
from configs.errors import ConfigError
from configs.help import FUSIONS, GROUPS, SCOPES, help_text
from tests.configs.test_every_yaml import options
from tests.programs import ROOT, started

Compose = Callable[..., DictConfig]


def told(*arguments: str) -> str:
    with pytest.raises(ConfigError) as caught:
        prepared(arguments)
    return str(caught.value)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("--experiment=madv2_lcaam", "--experiment=madv2_lcaam: settings have no dashes; write experiment=madv2_lcaam"),
        ("--experiment madv2_lcaam", "--experiment: settings have no dashes; write experiment=madv2_lcaam"),
        ("--task.lr 3", "--task.lr: settings have no dashes; write task.lr=3"),
        ("mask = lcaam", "leave out the blanks around '='; write mask=lcaam"),
        ("experiment= x", "leave out the blanks around '='; write experiment=x"),
        ("seed =3", "leave out the blanks around '='; write seed=3"),
        ("madv2_lcaam", "madv2_lcaam is not a setting; write experiment=madv2_lcaam"),
        ("mini", "mini is not a setting; write scale=mini"),
        ("quickly", "quickly is not a setting; a setting is written key=value, such as experiment=madv2_lcaam"),
        ("experiment=madv2_lcam", "experiment=madv2_lcam: there is no such file in configs/experiment/; did you mean "
         "'madv2_lcaam'? (choices: activitynet_captions_baseline"),
        ("-m experiment=madv2_lcaam,madv2_lcam", "experiment=madv2_lcam: there is no such file"),
        ("scale=tiny", "scale=tiny: there is no such file in configs/scale/"),
        ("batch_size=8", "batch_size: unknown key; did you mean 'data.batch_size'? (keys of a run: name, "),
        ("lr=1e-3", "lr: unknown key; did you mean 'task.lr'?"),
        ("seed=abc", "seed: 'abc' is not an int"),
        ("-m seed=0,1,abc", "seed: 'abc' is not an int"),
        ("-m experiment=qvhighlights_lcaam,imagenet1k_lcaam data.fraction=0.5", "data.fraction: unknown key"),
        ("name=a)b", "'name=a)b' cannot be read: "),
    ],
)  # fmt: skip
def test_a_mistake_is_told_in_one_line(typed: str, message: str) -> None:
    answer = told(*typed.split())
    assert answer.startswith(message)
    assert "++" not in answer and "\n" not in answer


@pytest.mark.parametrize(
    "typed",
    ["", "experiment=madv2_lcaam seed=3", "--cfg job --resolve", "-m seed=0,1", "-cn train", "-m mask=none,lcaam",
     "mask.fusion=add ~logger.wandb", "sweep=table1a seed=0", "trainer.limit_val_batches=2", "--info searchpath",
     "experiment=glob(madv2*) -m", "hydra/launcher=joblib hydra.launcher.n_jobs=2 -m", "--cfg job batch_size=8",
     "callbacks=[default,early_stopping]"],
)  # fmt: skip
def test_what_is_written_well_passes(typed: str) -> None:
    assert [word.removeprefix("++") for word in prepared(typed.split())] == typed.split()


@pytest.mark.parametrize("typed", ["--help", "-sc install=bash", "--hydra-help", "--shell-completion query=bash"])
def test_what_is_no_run_reaches_hydra_as_it_is(typed: str) -> None:
    assert prepared(typed.split()) == typed.split()


@pytest.mark.parametrize("typed", ["batch_size=8", "seed=abc", "task.widht=3", "trainer.max_step=3", "mask.fusoin=add"])
def test_a_key_error_imports_no_library(typed: str) -> None:
    code = (
        "import sys\nfrom configs.arguments import prepared\nfrom configs.errors import ConfigError\n"
        "try:\n    prepared(sys.argv[1:])\nexcept ConfigError as error:\n    print(error)\n"
        "print([name for name in ('torch', 'pytorch_lightning', 'lcaam', 'tasks.common.task') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, "experiment=madv2_lcaam", "scale=mini", typed]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    answer, imported = done.stdout.splitlines()
    assert answer.startswith(typed.split("=")[0]) and imported == "[]"


def test_the_program_ends_with_the_message_alone(tmp_path) -> None:
    done = started("train.py", "experiment=madv2_lcaam", "batch_size=8", f"paths.log_dir={tmp_path}")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert list(tmp_path.iterdir()) == []  # not even a run's folder


def test_a_later_refusal_has_no_marks_and_no_advice(tmp_path) -> None:
    given = ("experiment=qvhighlights_lcaam", "scale=smoke", "mask.fusion=mull", f"paths.log_dir={tmp_path}")
    alone = started("train.py", *given)
    assert alone.returncode == 1
    assert alone.stderr == ("mask.fusion: 'mull' is not one of none, add, mul, gate, temper; did you mean 'mul'?\n")
    swept = started("train.py", "-m", *given, "seed=0,1")
    assert swept.returncode == 1
    output = swept.stdout + swept.stderr
    assert "did you mean 'mul'?" in output and "#1 : experiment=qvhighlights_lcaam" in output
    assert "++" not in output and "HYDRA_FULL_ERROR" not in output and "Traceback" not in output


@pytest.mark.skipif("__import__('torch').cuda.is_available()", reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_told_before_anything_is_built(tmp_path) -> None:
    given = ("experiment=madv2_lcaam", "scale=smoke", "trainer.accelerator=gpu", f"paths.log_dir={tmp_path}")
    done = started("train.py", *given)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("trainer.accelerator: gpu, but PyTorch ") and "trainer=cpu" in done.stderr


@pytest.mark.parametrize("override", ["trainer.devices=0", "trainer.strategy=ddpp"])
def test_what_lightning_refuses_is_an_error_of_the_trainer(compose_run: Compose, override: str) -> None:
    from tasks.common.build import build_trainer

    with pytest.raises(ConfigError, match="^trainer: .*(devices=0|ddpp)"):
        build_trainer(compose_run("scale=smoke", "callbacks=none", override))


def test_the_bar_is_a_callback_and_nothing_else_shows_one(compose_run: Compose) -> None:
    from tasks.common.build import build_trainer

    assert build_trainer(compose_run("scale=smoke", "callbacks=none")).progress_bar_callback is None
    assert build_trainer(compose_run("scale=smoke")).progress_bar_callback is not None
    off = compose_run("scale=smoke", "trainer.enable_progress_bar=false")
    assert build_trainer(off).progress_bar_callback is None


def test_tab_completion_and_the_resolved_settings_work() -> None:
    done = started("train.py", "-sc", "install=bash")
    assert done.returncode == 0 and "hydra_bash_completion" in done.stdout
    shown = started("train.py", "experiment=madv2_lcaam", "--cfg", "job", "--resolve")
    assert shown.returncode == 0 and "num_keys: 50" in shown.stdout and "${" not in shown.stdout


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("logs/a/b", "logs/a/b is not a setting; write run=logs/a/b"),
        ("--run logs/a", "--run: settings have no dashes; write run=logs/a"),
        ("run = logs/a", "leave out the blanks around '='; write run=logs/a"),
        ("run=/nowhere", "run=/nowhere: there is no such folder or file"),
    ],
)
def test_eval_says_how_a_run_is_named(typed: str, message: str) -> None:
    from eval import main

    with pytest.raises(SystemExit, match=f"^{message}"):
        main(typed.split())


def test_help_fits_a_screen_and_names_every_choice() -> None:
    done = started("train.py", "--help")
    assert done.returncode == 0 and len(done.stdout.splitlines()) <= 55
    assert done.stdout.rstrip() == help_text().replace("$$", "$").rstrip()
    text = " ".join(done.stdout.split())
    (stems, endings), *others = re.findall(r"\{([\w, ]+)\}_\{([\w, ]+)\}", text)
    assert not others
    written = {f"{stem}_{ending}" for stem in stems.split(", ") for ending in endings.split(", ")}
    assert written <= set(options("experiment"))
    for group in GROUPS:
        for option in options(group):
            assert option in done.stdout or (group == "experiment" and option in written), option
    folders = {path.name for path in (ROOT / "configs").iterdir() if path.is_dir() and path.name[0] not in "_."}
    assert folders - {"local", "tuned"} == set(GROUPS)  # tuned follows from scale, task and mask


def test_help_says_what_a_mask_may_be() -> None:
    from lcaam.fusion import FUSIONS as KNOWN
    from lcaam.stack import SCOPES as PLACES

    assert {fusion.name: fusion.equation for fusion in KNOWN.values() if fusion.name in FUSIONS} == FUSIONS
    assert list(SCOPES) == list(PLACES)


# -- the command line wins over the scale ----------------------------------------------------------------------------

GROUPS_OF_A_RUN = ("trainer", "logger", "callbacks", "mask", "debug", "paths")
OF_THE_SCALE = {  # set by a scale on purpose, though a file of the group has a value as well
    "callbacks.checkpoint.monitor": "the rule by which the released run chose its weights",
    "callbacks.checkpoint.mode": "the same",
    "mask.depth": "the size of a mask belongs to the size of a model",
    "mask.lr_scale": "what was tuned for a task says nothing of a data set with a recipe of its own",
    "mask.hidden": "belongs to the size of a model too",
    "trainer.gradient_clip_val": "only trainer=fsdp sets it, which no task with such a scale allows",
    "trainer.max_steps": "how long a run is; debug comes after the scale and wins",
}


def keys_of(path, group: str | None) -> set[str]:
    """The dotted keys that a YAML file sets by value; those of a group's file lie below the group's name."""
    content = OmegaConf.to_container(OmegaConf.load(path)) or {}
    content.pop("defaults", None)
    in_root = "@package _global_" in path.read_text(encoding="utf-8")
    return set(flat(content, "" if group is None or in_root else group))


def flat(node, path: str) -> list[str]:
    if not isinstance(node, dict):
        return [path]
    return [key for name in node for key in flat(node[name], f"{path}.{name}" if path else name)]


def test_no_scale_sets_by_value_what_a_group_chooses() -> None:
    for scale in sorted((ROOT / "configs" / "scale").rglob("*.yaml")):
        mine = keys_of(scale, None) - set(OF_THE_SCALE)
        for group in GROUPS_OF_A_RUN:
            files = [file for file in (ROOT / "configs" / group).glob("*.yaml") if file.stem != "default"]
            theirs = set().union(*(keys_of(file, group) for file in files if group != "debug"))
            assert not mine & theirs, f"{scale}: a {group}=... on the command line would not change them"


@pytest.mark.parametrize("scale", ["mini", "smoke"])
def test_the_scale_chooses_a_trainer_and_the_command_line_another(compose_run: Compose, scale: str) -> None:
    def of(*overrides: str) -> tuple:
        trainer = compose_run("experiment=madv2_lcaam", f"scale={scale}", *overrides).trainer
        return trainer.accelerator, trainer.devices, trainer.precision

    assert of() == ("cpu", 1, "32-true")
    assert of("trainer=gpu") == ("gpu", 1, "bf16-mixed")
    assert of("trainer=ddp") == of("trainer=fsdp") == ("gpu", "auto", "bf16-mixed")
    assert of("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2") == ("cpu", 2, "bf16-mixed")


def test_settings_of_a_callback_that_was_not_chosen_are_told(compose_run: Compose) -> None:
    from configs.schema import validate

    run = ("experiment=msrvtt_lcaam", "callbacks=none", "test_checkpoint=last")
    with pytest.raises(ConfigError) as caught:
        validate(compose_run(*run))
    assert str(caught.value) == (
        "callbacks.checkpoint: the chosen callbacks have no such part (parts: non_finite_loss); to leave its settings "
        "out: callbacks.checkpoint=null"
    )
    validate(compose_run(*run, "callbacks.checkpoint=null"))
    with pytest.raises(ConfigError, match="^callbacks.figurs: .* no such part; did you mean 'figures'?"):
        validate(compose_run("+callbacks.figurs.every_n_epochs=2"))
