"""Paths of any letters reach the configuration as they were written."""

import pytest

from configs.command_line import marked, unmarked
from configs.quoting import quoted

NAMES = [
    "a=b", "x(y", "x(y)", "a{b", "a}b", "a#b", "it's", 'say "x"', "'x'y", "1,2", "Größe-走る", "a\\b", "a\\", "a\\'b",
    "a\\\\'", "123", "true", "[x]", "a:b", "{x: [1, 2}", "$x", "x y ", "~x", "%;@&", "a\tb", "a/b=c d",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_path_arrives_as_it_was_written(compose_run, name: str) -> None:
    given = [f"resume={name}", f"paths.data_dir=/data/{name}", f"data.root={name}/x"]
    arguments = marked(given)
    assert unmarked(arguments) == given
    assert marked(arguments) == arguments
    cfg = compose_run("experiment=qvhighlights_lcaam", "scale=smoke", *given)
    assert (cfg.resume, cfg.paths.data_dir, cfg.data.root) == (name, f"/data/{name}", f"{name}/x")


@pytest.mark.parametrize("argument", [
    "resume=null", "resume='a b'", 'resume="a,b"', "resume=choice(a,b)", "paths.log_dir=${paths.data_dir}/x",
    "resume=a/b", "seed=1,2", "mask.depth=3", "name=a=b", "resume",
])  # fmt: skip
def test_what_needs_no_quotes_gets_none(argument: str) -> None:
    assert quoted(argument) == argument
