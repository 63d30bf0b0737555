"""The user's text files: found in the order that is given, read as UTF-8, refused in one line."""

from pathlib import Path

import pytest

from datamodules.errors import DataError
from datamodules.language_model.files import code_points, found, read, text_of


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, content in {"b.txt": "zwei", "a.txt": "eins", "c.md": "drei"}.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    (tmp_path / "plays").mkdir()
    (tmp_path / "plays" / "d.txt").write_text("vier", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ("b.txt", "zwei"),
        ("*.txt", "einszwei"),  # sorted
        (["b.txt", "a.txt"], "zweieins"),
        (["c.md", "*.txt"], "dreieinszwei"),
        ("**/*.txt", "einszweivier"),
        ("plays/../c.md", "drei"),
    ],
)
def test_files_are_joined_in_their_order(folder: Path, files, text: str) -> None:
    assert text_of(read(found(files))) == text
    assert text_of(read(found(str(folder / "c.md")))) == "drei"


def test_a_file_whose_name_has_a_pattern_s_letters_is_a_file(folder: Path) -> None:
    (folder / "act [1].txt").write_text("x", encoding="utf-8")
    assert found("act [1].txt") == [Path("act [1].txt")]


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("\ufeffabc\n".encode(), "abc\n"),  # the mark at the beginning, and it alone
        ("a\ufeffb".encode(), "a\ufeffb"),
        (b"a\r\nb\rc\n", "a\nb\nc\n"),
        ("mögen – 日本 🎭".encode(), "mögen – 日本 🎭"),
    ],
)
def test_text_is_read_as_it_is_but_for_its_line_ends(tmp_path: Path, raw: bytes, text: str) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(raw)
    assert text_of(read([path])) == text
    assert code_points(text).tolist() == [ord(one) for one in text]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ("d.txt", r"data.files: there is no file d.txt; looked in \S+\. Did you mean 'b.txt'\?$"),
        ("nowhere/*.txt", r"data.files: no file matches nowhere/\*.txt; looked in "),
        ("plays", r"data.files: plays is a folder; name its files, such as 'plays/\*.txt'$"),
        ([], "data.files: an empty list; allowed: a file, a pattern"),
        (["a.txt", "*.txt"], "data.files: a.txt is named twice; the text would be in training and in the test"),
    ],
)
def test_what_cannot_be_found_is_told(folder: Path, files, message: str) -> None:
    with pytest.raises(DataError, match=message):
        found(files)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", r"text.txt: the file is empty$"),
        ("\ufeff".encode(), r"text.txt: the file is empty$"),
        ("für".encode("latin1"), r"text.txt: not utf-8 text: byte 0xfc at position 1 .*; convert it to utf-8"),
        ("abcd".encode("utf-16-be"), r"text.txt: every second byte is zero, .* utf-16-be; convert it to utf-8"),
        ("abcd".encode("utf-16")[:-1], r"text.txt: not utf-16 text: .* convert it to utf-8"),
        (b"\x89PNG\r\n", r"not utf-8 text: byte 0x89 at position 0"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(tmp_path: Path, raw: bytes, message: str) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(raw)
    with pytest.raises(DataError, match=message) as told:
        read([path])
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_mark_says_the_encoding(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes("für\r\ndich".encode(encoding))
    assert text_of(read([path])) == "für\ndich"


def test_a_file_that_went_away_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone.txt: cannot be read \(No such file or directory\)"):
        read([tmp_path / "gone.txt"])
