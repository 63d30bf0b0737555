"""Every bad configuration stops with one message: what was given, what is allowed, and the nearest match."""

from collections.abc import Callable

import pytest
from hydra.errors import ConfigCompositionException, MissingConfigException
from omegaconf import DictConfig, OmegaConf

from configs import targets
from configs.schema import ConfigError, validate

Compose = Callable[..., DictConfig]


def complaint(cfg: DictConfig) -> str:
    with pytest.raises(ConfigError) as caught:
        validate(cfg)
    return str(caught.value)


def test_a_mistyped_experiment_lists_the_experiments(compose_run: Compose) -> None:
    with pytest.raises(MissingConfigException, match="(?s)experiment/madv2_mutli_lcaam.*madv2_multi_lcaam"):
        compose_run("experiment=madv2_mutli_lcaam")


def test_a_mistyped_mask_lists_the_masks(compose_run: Compose) -> None:
    with pytest.raises((MissingConfigException, ConfigCompositionException), match="(?s)lcam.*multi_lcaam"):
        compose_run("mask=lcam")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "mask.fusion=mull",
            "mask.fusion: 'mull' is not one of none, add, mul, gate, temper; did you mean 'mul'?",
        ),
        (
            "mask.scope=per-layer",
            "mask.scope: 'per-layer' is not one of none, shared, tied, per_layer; did you mean 'per_layer'?",
        ),
        (
            "mask.init=xavir",
            "mask.init: 'xavir' is not one of identity, default, xavier, kaiming; did you mean 'xavier'?",
        ),
        ("mask.depth=deep", "mask.depth: 'deep' is not an int"),
        ("mask.depth=1.5", "mask.depth: 1.5 is not an int"),
        ("mask.depth=0", "mask.depth: 0 is out of range; allowed: at least 1"),
        ("mask.rank=0", "mask.rank: 0 is out of range; allowed: at least 1"),
        ("mask.residual=1", "mask.residual: 1 is not true or false"),
        ("seed=abc", "seed: 'abc' is not an int"),
        ("seed=", "seed: '' is not an int"),
        ("seed=-1", "seed: -1 is out of range; allowed: 0 to 4294967295"),
        ("seed=null", "seed: None is not an int"),
        ("data.batch_size=many", "data.batch_size: 'many' is not an int"),
        ("data.batch_size=0", "data.batch_size: 0 is out of range; allowed: at least 1"),
        ("trainer.max_steps=???", "trainer.max_steps"),
        ("trainer.precision=16-mixd", "did you mean '16-mixed'?"),
        ("test_checkpoint=lats", "test_checkpoint: 'lats' is not one of last, best; did you mean 'last'?"),
        ("floors.enabled=perhaps", "floors.enabled: 'perhaps' is not true or false"),
        ("+experimnt=madv2_lcaam", "experimnt: unknown key; did you mean 'experiment'?"),
        ("+sed=3", "sed: unknown key; did you mean 'seed'?"),
        (
            "+mask.fusoin=add",
            "mask.fusoin: unknown key; did you mean 'fusion'? (keys of mask: scope, kind, fusion, depth",
        ),
        ("+trainer.max_step=3", "trainer.max_step: unknown key; did you mean 'max_steps'?"),
        ("+data.batchsize=3", "data.batchsize: unknown key; did you mean 'batch_size'?"),
        ("+task.widht=3", "task.widht: unknown key; did you mean 'width'?"),
        ("+task.mask.depth=3", "task.mask: is set by the program"),
        ("+callbacks.checkpoint.montor=x", "callbacks.checkpoint.montor: unknown key; did you mean 'monitor'?"),
        ("+logger.wandb.taggs=x", "logger.wandb.taggs: unknown key; did you mean 'tags'?"),
        ("~callbacks.figures.folder", "callbacks.figures.folder: is missing"),
        ("~mask.fusion", "mask.fusion: is missing; mask needs scope, kind, fusion, depth"),
        ("~mask.control", "mask.control: is missing; mask needs scope"),
        ("~floors.enabled", "floors.enabled: is missing; floors needs enabled, max_steps"),
        ("~test_checkpoint", "test_checkpoint: is missing; a run needs name"),
        ("data.fps=0", "data.fps: 0 is out of range; allowed: a finite number above 0"),
        ("data.fps=-5.0", "data.fps: -5.0 is out of range"),
        ("data.fps=inf", "data.fps: inf is out of range"),
        ("data.seed=-1", "data.seed: -1 is out of range; allowed: 0 to 4294967295"),
        ("data.seed=4294967296", "data.seed: 4294967296 is out of range; allowed: 0 to 4294967295"),
        ("seed=4294967296", "seed: 4294967296 is out of range; allowed: 0 to 4294967295"),
        ("data.eval_batch_size=0", "data.eval_batch_size: 0 is out of range; allowed: at least 1"),
        ("data.num_workers=-1", "data.num_workers: -1 is out of range; allowed: at least 0"),
        ("task.lr=0", "task.lr: 0 is out of range; allowed: a finite number above 0"),
        ("task.lr=nan", "task.lr: nan is out of range"),
        ("task.lr=inf", "task.lr: inf is out of range"),
        ("task.betas=[0.9]", "task.betas: [0.9] is out of range; allowed: two numbers, each at least 0 and below 1"),
        ("task.betas=[0.9,1.0]", "task.betas: [0.9, 1.0] is out of range"),
        ("task.betas=[0.9,0.9,0.9]", "task.betas: [0.9, 0.9, 0.9] is out of range"),
        ("task.dropout=1.0", "task.dropout: 1.0 is out of range; allowed: at least 0 and below 1"),
        ("task.dropout=-0.1", "task.dropout: -0.1 is out of range"),
        ("task.warmup=1", "task.warmup: 1 is out of range; allowed: at least 0 and below 1"),
        ("task.weight_decay=-0.1", "task.weight_decay: -0.1 is out of range; allowed: a finite number, at least 0"),
        ("task.prefix_layers=0", "task.prefix_layers: 0 is out of range; allowed: at least 1"),
        ("task.prefix_layers=2", "task.prefix_layers: 2 is more than the language model has; allowed: 1 to 1"),
        ("task.bridge_layers=0", "task.bridge_layers: 0 is out of range; allowed: at least 1"),
        ("task.prompts=0", "task.prompts: 0 is out of range; allowed: at least 1"),
        ("task.prompt_std=-1", "task.prompt_std: -1 is out of range; allowed: a finite number, at least 0"),
        ("task.position_base=0", "task.position_base: 0 is out of range; allowed: a finite number above 0"),
        ("task.position_scale=-1", "task.position_scale: -1 is out of range"),
        ("task.llm.vocab_size=0", "task.llm.vocab_size: 0 is out of range; allowed: at least 1"),
        ("task.llm.config.hidden_size=0", "task.llm.config.hidden_size: 0 is out of range; allowed: at least 1"),
        ("task.llm.config.num_hidden_layers=0", "task.llm.config.num_hidden_layers: 0 is out of range"),
        ("+task.decoding.temperature=0.5", "task.decoding: temperature would have no effect; add do_sample=true"),
        ("task.decoding.max_new_tokens=0", "task.decoding.max_new_tokens: 0 is out of range; allowed: at least 1"),
        ("task.context.previous_tokens=0", "task.context.previous_tokens: 0 is out of range; allowed: at least 1"),
        ("task.bridge_heads=0", "task.bridge_heads: 0 is out of range; allowed: at least 1"),
        ("trainer.val_check_interval=0", "trainer.val_check_interval: 0 is out of range; allowed: at least 1 batch"),
        ("trainer.val_check_interval=0.0", "trainer.val_check_interval: 0.0 is out of range"),
        ("trainer.val_check_interval=-5", "trainer.val_check_interval: -5 is out of range"),
        ("callbacks.checkpoint.monitor=val/los", "callbacks.checkpoint.monitor: the task never logs 'val/los'; did"),
        ("optimized_metric=train/lss", "optimized_metric: the task never logs 'train/lss'; did you mean 'train/loss'?"),
        ("optimized_metric=val/ciderr", "the task never logs 'val/ciderr'; did you mean 'val/cider'?"),
        ("optimized_metric=mAPP", "optimized_metric: the task never logs 'mAPP' (it logs train/loss,"),
        ("optimized_metric=cider", "measured on the test set, and nothing may be chosen on it; allowed: val/cider"),
        ("optimized_metric=test/test_loss", "'test/test_loss' is measured on the test set"),
    ],
)
def test_a_wrong_value_or_key_is_named(compose_run: Compose, override: str, message: str) -> None:
    assert message in complaint(compose_run("experiment=madv2_lcaam", "scale=mini", override))


def test_a_run_that_is_older_than_a_setting_is_valid(compose_run: Compose) -> None:
    cfg = compose_run("experiment=madv2_lcaam", "scale=mini")
    OmegaConf.set_struct(cfg, False)
    del cfg["sweep"]
    validate(cfg)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sweep.skip_completd=true", "sweep.skip_completd: unknown key; did you mean 'skip_completed'?"),
        ("sweep.skip_completed=yes_please", "sweep.skip_completed: 'yes_please' is not"),
        ("sweep.known=rows.csv", "sweep.known: 'rows.csv' is not"),
    ],
)
def test_a_mistyped_setting_of_a_sweep_is_named(compose_run: Compose, override: str, message: str) -> None:
    assert message in complaint(compose_run("experiment=madv2_lcaam", "scale=mini", override))


def test_all_problems_are_told_at_once(compose_run: Compose) -> None:
    told = complaint(compose_run("mask.fusion=mull", "data.batch_size=0", "task.lr=-1"))
    assert len(told.splitlines()) == 3


def test_what_needs_no_library_is_told_first(compose_run: Compose) -> None:
    told = complaint(compose_run("seed=abc", "mask.depth=deep", "mask.fusion=mull", "+task.widht=3"))
    assert [line.split(":")[0] for line in told.splitlines()] == ["task.widht", "mask.depth", "seed"]


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("+batch_size=8", "batch_size: unknown key; did you mean 'data.batch_size'?"),
        ("+lr=1e-3", "lr: unknown key; did you mean 'task.lr'?"),
        ("+batchsize=8", "batchsize: unknown key; did you mean 'data.batch_size'?"),
        ("+task.depth=3", "task.depth: unknown key; did you mean 'mask.depth'?"),
        ("+max_steps=3", "max_steps: unknown key; did you mean 'floors.max_steps' or 'trainer.max_steps'?"),
        ("+limit_val_batches=3", "limit_val_batches: unknown key; did you mean 'trainer.limit_val_batches'?"),
        ("+task.llm.vocab=3", "task.llm.vocab: unknown key; did you mean 'vocab_size'? (keys of task.llm: pretrained"),
        ("+xyzzy=3", "xyzzy: unknown key (keys of a run: name, scale_name"),
    ],
)
def test_a_key_is_looked_for_in_every_node(compose_run: Compose, override: str, hint: str) -> None:
    assert complaint(compose_run("experiment=madv2_lcaam", "scale=mini", override)).startswith(hint)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["mask=lcaam", "mask.fusion=none"], "mask.fusion: none with mask.scope=shared"),
        (["mask=lcaam", "mask.num_keys=49"], "mask.num_keys: 49 is fewer than the 50 keys of the data"),
        (["task.width=10", "task.heads=4"], "task.heads: 4 does not divide task.width=10; allowed: 1, 2, 5, 10"),
        (["mask=lcaam", "task.width=12", "task.heads=4", "mask.groups=3"], "mask.groups: 3 is neither 1"),
        (["scale=mini", "data.sounds=speech"], "data.sounds: speech needs data.speech_dir="),
        (["scale=mini", "data.sounds=tones", "data.speech_dir=/x"], "data.speech_dir: is given, but data.sounds=tones"),
        (["scale=mini", "data.sounds=esc10"], "data.sounds: esc10 needs data.esc10_dir=<the folder of ESC-10"),
        (["scale=mini", "data.sounds=tones", "data.esc10_dir=/x"], "data.esc10_dir: is given, but data.sounds=tones"),
        (["scale=paper", "data.sounds=tones"], "data.sounds=tones: belongs to generated data, and scale=paper"),
        (["test_checkpoint=best", "callbacks=none"], "test_checkpoint: best needs a checkpoint callback"),
        (
            ["scale=mini", "test_checkpoint=best", "trainer.max_steps=249"],
            "test_checkpoint: best with trainer.val_check_interval=250 and trainer.max_steps=249: the run ends before",
        ),
        (
            ["scale=mini", "task.llm.config.num_attention_heads=3"],
            "num_attention_heads: 3 does not divide task.llm.config.hidden_size=64 into heads of an even number",
        ),
        (["scale=mini", "task.llm.config.num_attention_heads=64"], "num_attention_heads: 64 does not divide task.llm"),
        (
            ["scale=mini", "+task.llm.config.num_key_value_heads=3"],
            "num_key_value_heads: 3 does not divide task.llm.config.num_attention_heads=4",
        ),
        (
            ["scale=mini", "task.bridge=queries", "task.bridge_heads=3"],
            "task.bridge_heads: 3 does not divide task.width=64 (task.bridge=queries); allowed: 1, 2, 4, 8, 16, 32, 64",
        ),
    ],
)
def test_a_contradiction_is_explained(compose_run: Compose, overrides: list[str], message: str) -> None:
    assert message in complaint(compose_run(*overrides))


@pytest.mark.parametrize(
    "overrides",
    [
        ["test_checkpoint=best", "trainer.max_steps=250"],
        ["test_checkpoint=best", "trainer.max_steps=125", "+trainer.accumulate_grad_batches=2"],
        ["test_checkpoint=best", "trainer.max_steps=-1"],
        ["test_checkpoint=last", "trainer.max_steps=10"],
        ["test_checkpoint=best", "trainer.val_check_interval=1.0"],
        ["task.bridge=tokens", "task.bridge_heads=3"],
        ["task.llm.config.num_attention_heads=32", "+task.llm.config.num_key_value_heads=1"],
        ["task.decoding.preset=autoad", "+task.decoding.length_penalty=0.5", "+task.decoding.min_new_tokens=1"],
        ["task.prefix_layers=2", "task.llm.config.num_hidden_layers=2"],
        ["task.prefix_layers=9", "task.llm.pretrained=some/model"],  # its size is set elsewhere
        ["seed=4294967295", "data.seed=0", "task.dropout=0", "task.warmup=0", "task.weight_decay=0"],
        ["task.betas=[0,0.999]", "data.num_workers=0", "data.eval_batch_size=1", "trainer.val_check_interval=1"],
        ["callbacks.checkpoint.monitor=val/token_accuracy", "optimized_metric=train/loss_epoch"],
        ["optimized_metric=val/cider"],
        ["optimized_metric=null"],
        ["callbacks=early_stopping", "callbacks.checkpoint.monitor=null"],
    ],
)
def test_what_is_just_allowed_passes(compose_run: Compose, overrides: list[str]) -> None:
    validate(compose_run("experiment=madv2_lcaam", "scale=mini", *overrides))


def test_every_monitored_name_is_checked_against_what_the_task_logs(compose_run: Compose, monkeypatch) -> None:
    from tasks.audio_description.module import AudioDescription

    cfg = compose_run("scale=mini", "callbacks=early_stopping", "callbacks.early_stopping.monitor=val/lss")
    assert complaint(cfg).startswith("callbacks.early_stopping.monitor: the task never logs 'val/lss'; did you mean")
    monkeypatch.delattr(AudioDescription, "logged")
    validate(cfg)  # a task that does not say what it logs is not checked


def test_a_fusion_without_a_mask_is_harmless(compose_run: Compose, caplog: pytest.LogCaptureFixture) -> None:
    validate(compose_run("mask=none", "mask.fusion=add"))
    assert "mask.fusion=add has no effect" in caplog.text


@pytest.mark.parametrize("num_keys", [50, 51])
def test_a_mask_as_wide_as_the_data_or_wider_is_fine(compose_run: Compose, num_keys: int) -> None:
    validate(compose_run("mask=lcaam", f"mask.num_keys={num_keys}"))


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "subprocess.run",
        "torch.load",
        "logging.os.system",
        "tasks.common.environment.subprocess.run",  # the name begins in this project, the function does not
        "tasks.common.files.json.dumps",
        "torch.optim.Adam.__init__.__globals__",
        "tasksx.common.files.write_json",
        "lcaam",
    ],
)
def test_a_foreign_target_is_refused(compose_run: Compose, target: str) -> None:
    told = complaint(compose_run("experiment=madv2_lcaam", "scale=mini", f"task._target_={target}"))
    assert told.startswith("task._target_:")


def test_a_foreign_target_is_not_even_imported(compose_run: Compose) -> None:
    assert "is not allowed" in complaint(compose_run("data._target_=antigravity.fly"))


@pytest.mark.parametrize("where", ["callbacks.evil", "trainer.plugins", "task.lr", "trainer.plugins.deep.er"])
def test_a_foreign_target_is_found_wherever_it_hides(compose_run: Compose, where: str) -> None:
    told = complaint(compose_run("scale=mini", f"++{where}={{_target_: os.system, command: ls}}"))
    assert f"{where}._target_: 'os.system' is not allowed" in told


def test_a_mistyped_target_of_ours_is_named(compose_run: Compose) -> None:
    told = complaint(compose_run("callbacks.non_finite_loss._target_=tasks.common.non_finite.NonFiniteLos"))
    assert "cannot be imported" in told
    assert "did you mean 'tasks.common.non_finite.NonFiniteLoss'?" in told


def test_an_optimiser_of_torch_and_a_shipped_target_are_allowed() -> None:
    assert targets.resolve("x", "torch.optim.AdamW").__name__ == "AdamW"
    assert targets.resolve("callbacks.x", "pytorch_lightning.callbacks.EarlyStopping").__name__ == "EarlyStopping"


def test_validation_changes_nothing(compose_run: Compose) -> None:
    cfg = compose_run("experiment=madv2_lcaam", "scale=mini")
    before = OmegaConf.to_yaml(cfg)
    validate(cfg)
    assert OmegaConf.to_yaml(cfg) == before


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["mask=static_swinbert", "mask.fusion=mul"],
            r"mask.fusion: mul with mask.kind=static; allowed: add \(published\), gate .*mask=static_swinbert",
        ),
        (
            ["mask=lcaam", "mask.sparsity=0.5"],
            "mask.sparsity: 0.5 with mask.kind=context; it belongs to mask.kind=static",
        ),
        (["mask=lcaam", "mask.hard=true"], "mask.hard: True with mask.kind=context; it belongs to mask.kind=static"),
        (["mask=table", "mask.sparsity=1"], "mask.kind=table; it belongs to mask.kind=static or span"),
        (
            ["mask=temperature", "mask.fusion=add"],
            r"mask.fusion: add with mask.kind=temperature; allowed: mul ",
        ),
        (["mask=span", "mask.fusion=mul"], r"mask.fusion: mul with mask.kind=span; allowed: add \(the logarithm"),
        (["mask=span", "mask.ramp=0"], "mask.ramp: 0 is out of range; allowed: at least 1"),
        (["mask=span", "mask.start=1.5"], "mask.start: 1.5 is out of range; allowed: a share of the longest span"),
        (["mask=table", "+mask.ramp=3"], "mask.ramp: unknown key"),
        (["mask=extra_linear", "mask.scope=none"], "mask.control: extra_linear with mask.scope=none has no parameters"),
    ],
)
def test_static_masks_and_controls_that_contradict_themselves(compose_run, overrides, message) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(compose_run("scale=mini", *overrides))
