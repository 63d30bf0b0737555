"""eval.py gives a run's own numbers again, and says what is wrong with a run or a checkpoint."""

import json
import pickle
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
    assert evaluated(f"run={run}")["error"] == expected
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
