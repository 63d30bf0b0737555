"""eval.py gives a run's own numbers again, and says what is wrong with a run or a checkpoint."""

import json
import pickle
import re
import shutil
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from configs.errors import ConfigError
from configs.saved import open_run
from eval import evaluate
from tasks.common.errors import CheckpointError
from tests.composing import CONFIGS
from tests.tasks.common.tiny import tiny_config
from train import train


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cfg = tiny_config(tmp_path_factory.mktemp("finished"), "floors.enabled=false")
    train(cfg)
    return Path(cfg.paths.run_dir)


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, which one test may change."""
    return shutil.copytree(finished, tmp_path / "run")


def evaluated(*arguments: str) -> dict:
    output = evaluate(*open_run(OmegaConf.load(CONFIGS / "eval.yaml"), list(arguments)))
    assert len((output / "predictions" / "test.jsonl").read_text().splitlines()) == 32
    return json.loads((output / "metrics.json").read_text())


def test_it_repeats_the_run_s_own_test(run: Path) -> None:
    before = (run / "results.json").read_bytes()
    expected = json.loads(before)["metrics"]["error"]
    found = evaluated(f"run={run}")
    assert found["error"] == expected and found["evaluation"] == json.loads(before)["evaluation"]
    assert evaluated(f"run={run}/checkpoints/last.ckpt", "data.batch_size=5")["error"] == pytest.approx(expected)
    assert (run / "results.json").read_bytes() == before


def test_it_works_where_the_run_was_moved_to(run: Path, tmp_path: Path) -> None:
    moved = shutil.move(run, tmp_path / "elsewhere")
    assert evaluated(f"run={moved}")["checkpoint"] == str(moved / "checkpoints" / "last.ckpt")
    assert (moved / "eval").is_dir()


@pytest.mark.parametrize("name", ["ein Lauf", "lr=0.1", "Größe-走る", "a=b=c d", "{x: [1, 2}", "'quoted'", "1,2"])
def test_paths_are_taken_literally(run: Path, tmp_path: Path, name: str) -> None:
    moved = Path(shutil.move(run, tmp_path / name))
    (moved / "checkpoints" / "last.ckpt").rename(moved / "checkpoints" / f"{name}.ckpt")
    output = tmp_path / "out" / name
    found = evaluated(f"run={moved}", f"checkpoint={name}", f"output={output}")
    assert found["checkpoint"] == str(moved / "checkpoints" / f"{name}.ckpt")
    assert (output / "metrics.json").is_file()


def test_null_is_the_setting_s_default(run: Path) -> None:
    assert Path(evaluated(f"run={run}", "checkpoint=null", "output=null")["checkpoint"]).name == "last.ckpt"


def test_what_the_run_was_trained_with_may_be_said_again(run: Path) -> None:
    evaluated(f"run={run}", "mask.fusion=mul", "num_keys=4")


def test_a_setting_of_the_task_can_be_changed(run: Path) -> None:
    changed = evaluated(f"run={run}", "task.blind=true")
    assert changed["changes"] == ["task", "task.blind"]
    assert changed["error"] != evaluated(f"run={run}")["error"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "run=<a run's folder, or a checkpoint in it> is missing"),
        (["run=/nowhere"], "run=/nowhere: there is no such folder or file"),
        (["run={run}/figures"], "no config.yaml in"),
        (["run={run}", "chekpoint=best"], "chekpoint: unknown key; did you mean 'checkpoint'?"),
        (["run={run}", "data.batchsize=3"], "data.batchsize: unknown key; did you mean 'batch_size'?"),
        (["run={run}", "data.batch_size=x"], "data.batch_size: 'x' is not an int"),
        (["run={run}", "seed=1,2"], "'seed=1,2': only key=value is possible here"),
        (["run={run}", "nonsense"], "'nonsense' is not key=value"),
        (["run={run}", "mask.fusion=gate"], "mask.fusion: gate: the run was trained with mul"),
        (["run={run}", "mask.depth=7"], "weights belong to its mask and to what it reads; train again with"),
        (["run={run}", "mask={{scope: none}}"], "mask.scope: none: the run was trained with shared"),
        (["run={run}", "num_keys=7"], "num_keys: 7: the run was trained with 4"),
        (["run={run}", "data.tokens=3"], "data.tokens: 3: the run was trained with None"),
        (["run={run}", "data.tef=false"], "data.tef: False: the run was trained with None"),
        (
            ["run={run}", "data.video_streams={{sound: {{dim: 3}}}}"],
            "data.video_streams.sound.dim: 3: the run was trained with None",
        ),
        (["run={run}", "mask.fusoin=add"], "mask.fusoin: unknown key; did you mean 'fusion'?"),
        (["run={run}", "task.lr=0"], "task.lr: 0 is out of range; allowed: a finite number above 0"),
    ],
)
def test_a_bad_argument_is_explained(run: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        evaluated(*(argument.format(run=run) for argument in arguments))
    assert message in str(caught.value)


def test_a_missing_checkpoint_lists_those_there_are(run: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint .*bset.ckpt: .* holds best.ckpt, last.ckpt"):
        evaluated(f"run={run}", "checkpoint=bset")


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.99])
def test_a_truncated_checkpoint_is_named(run: Path, kept: float) -> None:
    whole = (run / "checkpoints" / "last.ckpt").read_bytes()
    size = int(kept * len(whole)) if isinstance(kept, float) else kept
    (run / "checkpoints" / "cut.ckpt").write_bytes(whole[:size])
    with pytest.raises(CheckpointError, match=rf"cut.ckpt \({size:,} bytes\) cannot be read: it is cut off"):
        evaluated(f"run={run}", "checkpoint=cut")


def test_a_pickle_that_would_run_code_is_refused(run: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return (print, ("run!",))

    (run / "checkpoints" / "evil.ckpt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(CheckpointError, match="evil.ckpt .* cannot be read"):
        evaluated(f"run={run}", "checkpoint=evil")


# -- a stranger's folder ----------------------------------------------------------------------------------------------


def changed(run: Path, key: str, value: object) -> None:
    """Writes a value into the run's config.yaml, as it is."""
    cfg = OmegaConf.load(run / "config.yaml")
    OmegaConf.update(cfg, key, value, force_add=True)
    OmegaConf.save(cfg, run / "config.yaml")


def writing(path: Path) -> dict[str, dict]:
    """Nodes that would leave something at `path` if they were built."""
    return {
        "writer": {"_target_": "tasks.common.files.write_text", "path": str(path), "text": "ran"},
        "wandb": {"_target_": "tasks.common.loggers.wandb_logger", "folder": str(path), "project": "p", "name": "n",
                  "group": "g", "job_type": "j", "tags": []},
        "files": {"_target_": "os.makedirs", "name": str(path)},
    }  # fmt: skip


def test_none_of_a_folder_s_callbacks_and_loggers_is_built(run: Path, tmp_path: Path) -> None:
    expected = evaluated(f"run={run}")["error"]
    changed(run, "callbacks", writing(tmp_path / "ran"))
    changed(run, "logger", writing(tmp_path / "ran"))
    changed(run, "trainer.default_root_dir", str(tmp_path / "ran"))
    changed(run, "trainer.profiler", "advanced")
    before = {path for path in run.rglob("*") if "eval" not in path.parts}
    assert evaluated(f"run={run}")["error"] == expected
    assert not (tmp_path / "ran").exists()
    assert {path for path in run.rglob("*") if "eval" not in path.parts} == before


@pytest.mark.parametrize("place", ["data", "task", "data.name", "task.lr", "trainer.strategy", "mask.init", "name"])
@pytest.mark.parametrize("node", ["writer", "wandb", "files"])
def test_no_function_that_a_folder_names_is_called(run: Path, tmp_path: Path, place: str, node: str) -> None:
    changed(run, place, writing(tmp_path / "ran")[node])
    with pytest.raises(ConfigError, match=re.escape(str(run / "config.yaml"))):
        evaluated(f"run={run}")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("asked", ["oc.env:LCAAM_SECRET", "project_root:", "run_stamp:", "seed", "oc.env:NONE,${seed}"])
@pytest.mark.parametrize("key", ["name", "task.lr", "data.tokens", "callbacks.csv.folder"])
def test_interpolations_of_a_folder_are_refused_and_not_looked_up(
    run: Path, monkeypatch: pytest.MonkeyPatch, key: str, asked: str
) -> None:
    monkeypatch.setenv("LCAAM_SECRET", "the secret")
    changed(run, key, f"${{{asked}}}")
    with pytest.raises(ConfigError, match=rf"config.yaml: {key}: an interpolation") as caught:
        evaluated(f"run={run}")
    assert "secret" not in str(caught.value).lower().replace("lcaam_secret", "")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "not the configuration of a run, which has the mappings"),
        ("[1, 2]", "not the configuration of a run"),
        ("a: [", "not the configuration of a run"),
        ("\x00", "not the configuration of a run"),
        ("a: !!python/object/apply:os.system [ls]", "not the configuration of a run"),
        ("a: &a [x, x]\nb: [*a, *a]", "has references"),
        ("[" * 100_000, "lists in lists, too deep to be read"),
        ("a: " + "x" * 2**21, "a run's configuration has a few thousand"),
        ("data: {}\ntask: {}\nmask: {}\ntrainer: {}\npaths: {}", "with the changes of the command line"),
    ],
)
def test_a_damaged_configuration_is_named(run: Path, text: str, told: str) -> None:
    (run / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match=re.escape(f"{run / 'config.yaml'}")) as caught:
        evaluated(f"run={run}")
    assert told in str(caught.value)


def test_a_run_that_did_not_finish_is_told(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    evaluated(f"run={run}")
    assert "did not finish" not in caplog.text
    record = json.loads((run / "results.json").read_text())
    steps, planned = 12, OmegaConf.load(run / "config.yaml").trainer.max_steps
    last = run / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    torch.save({**checkpoint, "global_step": steps}, last)
    for text, status in ((json.dumps({**record, "status": "running"}), "running"), ("{", "unknown")):
        caplog.clear()
        (run / "results.json").write_text(text)
        evaluated(f"run={run}")
        assert f"this run did not finish (status {status}, step {steps} of {planned})" in caplog.text
