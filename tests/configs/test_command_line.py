"""A mistyped key reaches the validation; everything else passes as it was written."""

import pytest

from configs.command_line import marked, unmarked


@pytest.mark.parametrize("argument", ["mask.depth=3", "seed=0,1,2", "sed=3", "experimnt=x", "paths.log_dir=a/b"])
def test_a_plain_value_is_marked(argument: str) -> None:
    assert marked([argument]) == [f"++{argument}"]
    assert unmarked(marked([argument])) == [argument]


@pytest.mark.parametrize(
    "argument",
    ["experiment=madv2_lcaam", "mask=none,lcaam", "hydra/launcher=local", "hydra.launcher.n_jobs=2", "scale=mini",
     "+x=1", "++x=1", "~logger.wandb", "-m", "--cfg", "job", "--config-name=eval", "scale@_global_=x"],
)  # fmt: skip
def test_a_choice_or_a_flag_is_not(argument: str) -> None:
    assert marked([argument]) == [argument]


def test_a_key_of_the_chosen_sweep_replaces_it_instead_of_multiplying_it() -> None:
    given = ["sweep=figure_s4", "seed=0", "mask.fusion=add", "task.lr=0.1"]
    assert marked(given) == ["sweep=figure_s4", "seed=0", "mask.fusion=add", "++task.lr=0.1"]
    assert marked(["sweep=no_such_sweep", "seed=0"]) == ["sweep=no_such_sweep", "++seed=0"]
