"""The cells of sweeps, and every shipped sweep that has a table: its node, its rows, its contrasts."""

import itertools
import re
from types import SimpleNamespace

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from configs.arguments import choices_of, prepared
from configs.command_line import GROUPS, marked
from configs.errors import ConfigError
from configs.identity import identity, setting_id
from configs.schema import validate
from configs.sweeping import cells, sweeper_of, values_of
from configs.sweeping import words as sweep_words
from configs.targets import resolve
from hydra_plugins.lcaam_sweeps.rows_sweeper import RowsSweeper
from scripts.table import expected
from scripts.table.expected import expected_rows
from scripts.table.making import tables_of
from tests.composing import CONFIGS, composed

TABLES = [name for name in choices_of("sweep") if OmegaConf.load(CONFIGS / "sweep" / f"{name}.yaml").get("table")]
PARAMS = {"experiment": "a", "mask": "multi", "mask.fusion": "add,mul", "seed": "0,1"}


def test_the_cells_are_the_product_and_the_rows_beside_it():
    found = [" ".join(cell) for cell in cells(PARAMS, [{"mask": "none"}], ["++task.lr=1"])]
    product = [f"experiment=a mask=multi mask.fusion={f} seed={s} ++task.lr=1" for f in ("add", "mul") for s in (0, 1)]
    assert found == product + [f"experiment=a mask=none seed={s} ++task.lr=1" for s in (0, 1)]


def test_a_command_line_wins_and_what_the_product_varies_stays_out_of_the_rows_beside_it():
    found = [
        " ".join(cell) for cell in cells(PARAMS, [{"mask": "none"}], ["seed=5", "mask.fusion=add", "experiment=b"])
    ]
    assert found == ["experiment=b mask=multi mask.fusion=add seed=5", "experiment=b mask=none seed=5"]


def test_a_row_beside_the_product_keeps_the_values_that_the_command_line_names():
    also = [{"mask": "none", "seed": "0,1,2"}]
    found = [" ".join(cell) for cell in cells(PARAMS, also, ["seed=1,7", "mask.fusion=add"])]
    assert found[2:] == ["experiment=a mask=none seed=1"]
    assert not any("mask=none" in cell for cell in cells(PARAMS, also, ["mask=multi,other"]))


def test_a_row_that_the_command_line_puts_into_the_product_too_is_there_once():
    params = {"experiment": "a", "mask": "none,lcaam", "seed": "0,1"}
    found = [" ".join(cell) for cell in cells(params, [{"mask": "table"}], ["mask=none,table", "scale=mini"])]
    assert found == [f"experiment=a mask={mask} seed={s} scale=mini" for mask in ("none", "table") for s in (0, 1)]


def test_a_range_to_draw_from_is_no_list_of_cells():
    with pytest.raises(ConfigError, match="a range to draw from; a table needs values, such as task.lr=1,2"):
        cells({"task.lr": "interval(0, 1)"}, None, [])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"baselin": "x"}, r"table.baselin: unknown key; did you mean 'baseline'\?"),
        ({"margin": -1.0}, "table.margin: -1.0 is out of range"),
        ({"contrasts": [{"rows": "x"}]}, r"contrasts\[0\]: has the keys \['rows'\]; allowed: row, and against"),
        ({"contrasts": [{"row": "x"}] * 4}, "4 contrasts; at most 3"),
        ({"figure": {"y": "mAP"}}, "figure: has the keys"),
        ({"figure": {"x": "mask.depth", "scale": "logg"}}, "figure.scale: 'logg' is none of linear, log"),
    ],
)
def test_a_bad_table_node_is_told(compose_run, change, said):
    cfg = compose_run("experiment=madv2_lcaam", "scale=smoke")
    assert cfg.table is None
    cfg.table = {"question": "?", "baseline": "full attention", **change}
    with pytest.raises(ConfigError, match=said):
        validate(cfg)


def test_a_table_does_not_change_a_run_s_identity(compose_run):
    cfg = compose_run("experiment=madv2_lcaam", "scale=smoke")
    before = identity(cfg)
    cfg.table = {"question": "?", "baseline": "full attention"}
    cfg.primary = None
    assert identity(cfg) == before


def test_a_setting_is_its_identity_without_the_seed(compose_run):
    one, other, third = (
        compose_run("experiment=madv2_lcaam", "scale=smoke", *words) for words in ([], ["seed=5"], ["task.lr=0.5"])
    )
    assert setting_id(one) == setting_id(other) != identity(one)
    assert setting_id(third) != setting_id(one)


# other tables have the same parts
ALIKE = (
    "fusions",
    "language_model",
    "language_model_again",
    "language_model_rotary",
    "masks_msrvtt",
    "positions",
    "scopes",
    "table1a",
    "table1d",
    "table5",
    "table5_cifar10",
)


def shipped():
    """Every table at both scales; in the slow tier the paper's, and those whose parts other tables have too."""
    for scale, name in itertools.product(("mini", "paper"), TABLES):
        marks = [pytest.mark.slow] if scale == "paper" or name in ALIKE else []
        yield pytest.param(name, scale, marks=marks)


@pytest.mark.parametrize(("name", "scale"), list(shipped()))
def test_every_shipped_table_is_whole(name, scale, tmp_path, monkeypatch):
    """Labels that are there twice, and a baseline or contrast without a row, are refused by `tables_of`."""
    monkeypatch.setattr(expected, "composed", lambda *words: with_table(tmp_path, name, words))
    monkeypatch.setattr(expected, "prepared", list)  # the command line has no mistake
    rows = expected_rows(name, [f"scale={scale}", "seed=3"])
    tables = tables_of(name, rows, ["seed=3"], "command")
    assert sum(row.of is None for table in tables for row in table.rows) == len(rows)
    for table in tables:
        trained = [row for row in table.rows if row.of is None]
        assert len({row.settings for row in trained}) == len(trained), "two rows are one setting"
        assert all(row.missing == {3: "never ran"} for row in trained)
        assert all(row.missing == {3: "no run to test again"} for row in table.rows if row.of)
    labels = {row.label for row in rows}
    for row in rows:
        node, known = row.cfg.table, resolve("task", row.cfg.task["_target_"]).headline
        figure = node.figure or {}
        used = [*node.metrics, node.primary or row.cfg.primary.metric, *filter(None, [figure.get("y")])]
        assert not [metric for metric in used if metric not in known]
        assert set(node.published) <= labels
        assert set(node.failed_below) <= set(choices_of("scale"))
        axes = [figure[name] for name in ("x", "by") if name in figure]
        assert row.label == tables[0].baseline or all(f"{axis}=" in " ".join(row.overrides) for axis in axes)
        validate(row.cfg)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("language_model", "data.files=input.txt"),
        ("figure_s4", "data.max_clips=80"),
        ("table5_cifar10", "data.image_size=32"),
    ],
)
def test_a_key_is_looked_for_in_what_the_sweep_runs(name, word):
    """Not in train.py's own default experiment, which has neither of them."""
    words = [f"sweep={name}", "scale=mini"]
    assert prepared([*words, word])[-1] == f"++{word}"
    with pytest.raises(ConfigError, match=r"data\.nothing_of_the_kind: unknown key"):
        prepared([*words, "data.nothing_of_the_kind=1"])


def swept():
    """Every key that a shipped sweep with experiments of its own goes through, with one value."""
    for name in TABLES:
        params = sweeper_of(name)["params"]
        for word in sweep_words(params if "experiment" in params else {}):
            ((key, values),) = values_of([word]).items()
            if key not in GROUPS:
                yield name, values[0]


@pytest.mark.parametrize(("name", "word"), list(swept()))
def test_one_value_of_a_key_that_a_sweep_goes_through_is_enough(name, word):
    """Hydra composes train.py's default experiment before the sweep's; it need not have the key."""
    given = prepared([f"sweep={name}", "scale=mini", word])
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        GlobalHydra.instance().hydra.compose_config("train", given, run_mode=RunMode.MULTIRUN)
    jobs = cells(**sweeper_of(name), arguments=given)
    assert jobs and all(word in job for job in jobs if len(job) == len(jobs[0]))


def test_one_value_of_a_search_stays_as_it_is():
    given = ["sweep=search", "experiment=qvhighlights_lcaam", "task.lr=0.1"]
    assert prepared(given) == given


def commands():
    """The settings that a sweep's file shows behind the -- of its commands, and its name."""
    shown = re.compile(r"^# +python -m scripts\.table (\w+) .*?-- (\S.*?)(?:  .*)?$", re.MULTILINE)
    for name in TABLES:
        yield from shown.findall((CONFIGS / "sweep" / f"{name}.yaml").read_text(encoding="utf-8"))


def test_sweeps_show_commands_with_settings():
    found = list(commands())
    assert ("length", "experiment=qvhighlights_baseline mask.length=fixed,content") in found
    assert len(found) > 10


@pytest.mark.parametrize(("name", "settings"), sorted(commands()))
def test_all_cells_of_the_commands_that_a_sweep_shows_are_valid(name, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(expected, "composed", lambda *words: with_table(tmp_path, name, words))
    monkeypatch.setattr(expected, "prepared", list)
    words = [word for word in settings.split() if not word.startswith("seed=")]
    rows = expected_rows(name, ["scale=mini", "seed=3", *words])
    tables_of(name, rows, ["seed=3", *words], "command")
    for row in rows:
        validate(row.cfg)


def with_table(folder, name, words):
    """As composed with the sweep, which adds its table; test_every_yaml composes each sweep as it is.

    Files are read once per choice of files: all other settings are changed in a copy.
    """
    choices = [word for word in words if word.partition("=")[0] in GROUPS and not word.startswith("sweep=")]
    changes = [f"++{word.removeprefix('++')}" for word in words if word.partition("=")[0] not in GROUPS]
    cfg = composed(folder, *choices, *changes)
    node = OmegaConf.load(CONFIGS / "sweep" / f"{name}.yaml")
    cfg.table = node.table
    cfg.task.merge_with({key: value for key, value in (node.get("task") or {}).items() if f"task.{key}=" not in words})
    return cfg


def test_the_paper_s_tables_have_sweeps():
    assert {"table1a", "table1bc", "table1d", "table2", "table3", "table5", "figure_s4"} <= set(TABLES)
    assert {"fusions", "scopes", "init", "length", "ladder", "headline", "masks_msrvtt"} <= set(TABLES)


def test_a_sweep_s_own_sweeper_runs_the_cells_that_its_table_expects(tmp_path, monkeypatch):
    """The sweeper gets the command line as train.py marks it, the table as the user writes it."""
    node = OmegaConf.load(CONFIGS / "sweep" / "fusions.yaml").hydra.sweeper
    launched = []
    sweeper = RowsSweeper(OmegaConf.to_container(node.params), OmegaConf.to_container(node.also))
    sweeper.config = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}})
    sweeper.launcher = SimpleNamespace(launch=lambda jobs, initial_job_idx: launched.extend(jobs) or [])
    sweeper.validate_batch_is_legal = lambda jobs: None
    given = ["scale=smoke", "seed=0,1", "task.lr=0.5"]
    sweeper.sweep(marked(["sweep=fusions", *given]))
    monkeypatch.setattr(expected, "composed", lambda *words: with_table(tmp_path, "fusions", words))
    rows = expected_rows("fusions", given)
    assert len(launched) == 10 == sum(len(row.seeds) for row in rows)
    for row, seed in itertools.product(rows, (0, 1)):
        own = {*row.overrides, f"seed={seed}", "scale=smoke", "++task.lr=0.5"}
        assert [job for job in launched if set(job) - {"sweep=fusions"} == own]


@pytest.mark.parametrize(
    "word", ["hydra.sweeper.also=[{mask: table}]", "+hydra.sweeper.params.seed=0", "hydra/sweeper=basic"]
)
def test_rows_of_another_sweeper_are_refused_and_not_left_out(word):
    with pytest.raises(ConfigError, match=r"(?s)sweeper.*the rows of a table are those of configs/sweep/fusions\.yaml"):
        expected_rows("fusions", ["scale=mini", word])
