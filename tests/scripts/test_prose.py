"""The check of the project's English: a pattern finds the phrases that it was made for and leaves good ones alone."""

import pytest

from scripts import prose
from tests.programs import ROOT

BAD = {  # sentence: the pattern that finds it
    "Of each part, of the whole first evaluation.": "headless of",
    "Sizes.\n\nrank: of B A, at least 1": "headless of",
    "num_queries, num_keys: of the score matrix": "headless of",
    "Markdown: a row a number": "distributive a",
    "A panel a query: its saliency as steps.": "distributive a",
    "one JSON object a line": "distributive a",
    "The rate is for 1,024 images a step.": "distributive a",
    "attention of a ViT takes 22 MB an image": "distributive a",
    "the mean number of images a rank": "distributive a",
    "'x' is no finite number above 0": "is no",
    "a caption of 'x' is no text but int": "is no",
    "these words are no\nname of a file": "is no",
    "None where there is none.": "where for if",
    "Raises ConfigError where it cannot be had.": "where for if",
    "Raises ConfigError: a path\nwhere no file lies.": "where for if",
    "It is refused where a sequence grows token by token.": "where for if",
    "the averaged one where there is one": "where for if",
    "that is a test's business": "business, affair",
    "the fusion's affair": "business, affair",
    "a run that was taken up at an epoch's end": "taken up",
    "what the keywords mean stands in configs/task.yaml": "stands in",
    "a target must stand in a YAML file": "stands in",
    "sign-safe (ours)": "ours",
    "nobody waits for the dead": "whimsy",
    "No movie is dropped without a word.": "whimsy",
    "a negative value turns the order of the keys around": "whimsy",
}
GOOD = [
    "Of course the sizes must agree.",
    "rank: rank of B A, at least 1",
    "One row per number, one column per form.",
    "five rows a second",
    "A mask gives a row its weights.",
    "the score of a pair, or a clip",
    "'x' is not a finite number above 0",
    "There is no file of that name, and there\nare no others.",
    "The run is no longer alive.",
    "None if there is none.",
    "Raises ConfigError if it is not available.",
    "It says where it looked, and the place where the file lies.",
    "It shows where a block ends.",
    "boundaries: where a block ends and the next begins",
    "zeros where `keep` (B, N) is False",
    "a stand-in for the weights",
    "the four hours of a run",
    "courses and colours",
    "an update takes memory",
    "The upper row is written first.",
]


def found(tmp_path, suffix: str, text: str) -> set[str]:
    path = tmp_path / f"page{suffix}"
    path.write_text(text, encoding="utf-8")
    return {finding.pattern for finding in prose.findings(path, path.name)}


@pytest.mark.parametrize("sentence", [sentence for sentence, pattern in BAD.items() if pattern])
def test_a_bad_phrase_in_a_docstring_is_found(tmp_path, sentence):
    assert found(tmp_path, ".py", f'"""{sentence}"""\n') == {BAD[sentence]}


@pytest.mark.parametrize("sentence", GOOD)
@pytest.mark.parametrize("suffix", [".py", ".md"])
def test_good_english_is_left_alone(tmp_path, sentence, suffix):
    assert found(tmp_path, suffix, f'"""{sentence}"""\n' if suffix == ".py" else f"{sentence}\n") == set()


def test_comments_messages_and_pieces_of_f_strings_are_read_and_code_is_not(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        "import os\n"
        "ours = [business for business in ()]\n"
        "# None where there\n"
        "# is none\n"
        "size = 3  # one row a number\n"
        "def f(name):\n"
        "    raise ValueError(\n"
        '        f"{name!r} is no number, "\n'
        '        "and a word is ours"\n'
        "    )\n",
        encoding="utf-8",
    )
    places = {(finding.line, finding.pattern) for finding in prose.findings(path, "module.py")}
    assert places == {(3, "where for if"), (5, "distributive a"), (8, "is no"), (9, "ours")}


def test_of_yaml_and_make_files_the_comments_are_read(tmp_path):
    text = "# None where there is none\nname: ours # one row a number\n"
    for suffix in (".yaml", ".toml"):
        assert found(tmp_path, suffix, text) == {"where for if", "distributive a"}


def test_a_trailing_comment_may_go_on_from_the_name_before_it(tmp_path):
    assert found(tmp_path, ".py", "margin = 0.2  # of the hinge\n") == set()
    assert found(tmp_path, ".py", "# of the hinge\nmargin = 0.2\n") == {"headless of"}


def test_the_exit_status_and_the_lines_say_what_was_found(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("All is well.\n", encoding="utf-8")
    assert prose.main([str(page)]) == 0
    page.write_text("All is well.\n\nThis is ours.\n", encoding="utf-8")
    assert prose.main([str(page)]) == 1
    printed = capsys.readouterr().out
    assert f"{page}:3: ours: This is ours.\n" in printed
    assert "1 phrase to rewrite" in printed
    with pytest.raises(FileNotFoundError, match="no such file"):
        prose.main([str(tmp_path / "other.md")])


def test_an_exception_is_for_one_line_of_one_file(tmp_path, monkeypatch):
    page = ROOT / "README.md"
    monkeypatch.setattr(prose, "findings", lambda path, name: [prose.Finding(name, 1, "ours", "a b c")])
    for entry, status in (("README.md: b c", 0), ("README.md: *", 0), ("README.md: d", 1), ("docs/x.md: b c", 1)):
        listed = tmp_path / "allowed.txt"
        listed.write_text(f"# comment\n{entry}\n", encoding="utf-8")
        monkeypatch.setattr(prose, "ALLOWED", listed)
        assert prose.main([str(page)]) == status


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "Makefile", "docs"])
def test_the_pages_have_none(page):
    assert prose.main([str(ROOT / page)]) == 0
