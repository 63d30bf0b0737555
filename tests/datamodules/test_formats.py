"""The shared readers: arrays, text, JSON, names and kept files, with files that were made to do harm."""

import io
import json
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from datamodules.errors import DataError
from datamodules.formats import numpy_files
from datamodules.formats.guard import reading
from datamodules.formats.json_text import parse_json, read_json, unique
from datamodules.formats.kept import nothing_kept, read_kept, write_kept
from datamodules.formats.names import LONGEST, file_name
from datamodules.formats.numpy_files import header_of_npy, map_npy, read_npy, read_npz
from datamodules.formats.text import read_lines
from datamodules.mini.store import build_once
from datamodules.packed import PackedFeatures, index_path, pack
from datamodules.video_captioning.captions import Clip, fields_from, natural, read_captions
from datamodules.video_captioning.splits import by_number

VALUES = np.arange(24, dtype=np.float32).reshape(6, 4)


def npy(header: str, content: bytes = bytes(96)) -> bytes:
    text = header.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + content


def announcing(shape: object, kind: str = "<f4") -> bytes:
    return npy(f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}}}")


# -- arrays -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [None, 0, 1, 5, 6, 7])
@pytest.mark.parametrize("values", [VALUES, np.asfortranarray(VALUES), VALUES.astype(">f8"), VALUES[:0], VALUES[0]])
def test_arrays_are_what_numpy_reads(tmp_path: Path, values: np.ndarray, limit: int | None) -> None:
    np.save(tmp_path / "a.npy", values)
    np.savez_compressed(tmp_path / "a.npz", other=VALUES, features=values)
    for found in (read_npy(tmp_path / "a.npy", "a", limit), read_npz(tmp_path / "a.npz", "features", "a", limit)):
        np.testing.assert_array_equal(found, values[:limit])
        assert found.dtype == values.dtype and found.flags.writeable
    np.testing.assert_array_equal(map_npy(tmp_path / "a.npy", "a"), values)
    assert header_of_npy(tmp_path / "a.npy", "a").shape == values.shape


@pytest.mark.parametrize(
    "content",
    [
        announcing((10**9, 4)), announcing((10**12, 4)), announcing((10**18, 10**18)), announcing((-1, 4)),
        announcing((7, 4)), announcing((5, 4)), announcing((6, 4), "<f8"), announcing((6, 4), "|O"), announcing("x"),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': " + "(" * 300), npy("("), b"", b"\x93NUMPY\x09\x09",
        announcing((6, 4)) + b"junk",
    ],
)  # fmt: skip
def test_a_header_that_is_not_the_file_s_is_refused_without_allocating(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("features.npy", content)
    tracemalloc.start()
    try:
        for read in (
            lambda: read_npy(tmp_path / "a.npy", "a.npy: bad"),
            lambda: map_npy(tmp_path / "a.npy", "a.npy: bad"),
            lambda: header_of_npy(tmp_path / "a.npy", "a.npy: bad"),
            lambda: read_npz(tmp_path / "a.npz", "features", "a.npz: bad"),
        ):
            with pytest.raises(DataError, match=r"^a\.np[yz]: bad \(.*\)\.$"):
                read()
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_a_zip_bomb_is_read_as_far_as_is_asked_or_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(numpy_files, "LARGE", 2**20)
    rows, path = 500_000, tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("features.npy", "w") as file:
        file.write(npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, 4)}}", VALUES.tobytes()))
        for _ in range(rows * 16 // 2**20):
            file.write(bytes(2**20))
        file.write(bytes(rows * 16 - VALUES.nbytes - rows * 16 // 2**20 * 2**20))
    assert path.stat().st_size < 2**16
    tracemalloc.start()
    try:
        np.testing.assert_array_equal(read_npz(path, "features", "bomb.npz: bad", limit=6), VALUES)
        with pytest.raises(DataError, match=r"\(its [\d,]+ bytes unpack to 8,000,128, which is too much\)"):
            read_npz(path, "features", "bomb.npz: bad")
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_a_flipped_bit_behind_the_rows_that_are_asked_for_is_found_too(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", features=VALUES)
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[data.index(VALUES.tobytes()) + VALUES.nbytes - 1] ^= 1
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(DataError, match="a.npz: bad .*CRC"):
        read_npz(tmp_path / "a.npz", "features", "a.npz: bad", limit=1)


@pytest.mark.parametrize(
    "change",
    [
        {"ids": {"a": [0, 3], "b": [2, 4]}}, {"ids": {"a": [0, 2], "b": [3, 3]}}, {"ids": {"a": [0, 2], "b": [2, 3]}},
        {"ids": {"a": [0, 2], "b": [2, 5]}}, {"ids": {"a": [-1, 3], "b": [2, 4]}},
        {"ids": {"a": [0.0, 2], "b": [2, 4]}},
        {"ids": {"a": ["0", 2], "b": [2, 4]}}, {"ids": {"a": [[0], 2], "b": [2, 4]}}, {"ids": {"a": 0, "b": [2, 4]}},
        {"ids": {"a": [0, 2, 1], "b": [2, 4]}}, {"ids": {"a": [True, 2], "b": [2, 4]}},
        {"ids": {"a": [0, 0], "b": [0, 6]}},
        {"ids": [["a", 0, 6]]}, {"ids": None}, {"shape": [6]}, {"shape": "6x4"}, {"dtype": 4}, {"dtype": "float31"},
        {"shape": [10**12, 4]}, {"format": 2},
    ],
)  # fmt: skip
def test_an_impossible_index_of_a_packed_stream_is_named(tmp_path: Path, change: dict) -> None:
    path = tmp_path / "s.packed.npy"
    pack([("a", VALUES[:2]), ("b", VALUES[2:])], 6, 4, path, np.dtype("float32"))
    np.testing.assert_array_equal(PackedFeatures(path).read("b"), VALUES[2:])
    index = json.loads(index_path(path).read_text())
    index_path(path).write_text(json.dumps(index | change))
    with pytest.raises(DataError, match=r"s\.packed\.json"):
        PackedFeatures(path)


# -- text and JSON ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ['{"a": "b \\ud800 c"}', '["\\uDC00"]', '{"\\ud800": 1}'])
def test_half_of_a_surrogate_pair_is_named_and_a_whole_one_is_a_letter(text: str) -> None:
    with pytest.raises(DataError, match="x.json: bad .*surrogates not allowed"):
        parse_json(text, "x.json: bad")
    assert parse_json('["\\ud83d\\ude00"]', "x.json: bad") == ["\U0001f600"]


def test_a_key_that_is_there_twice_is_named_if_asked(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="x.json: bad .*'v1' is there twice in one object"):
        parse_json('{"v1": ["a"], "v1": ["b"]}', "x.json: bad", unique)
    assert parse_json('{"v1": {"v1": 1}}', "x.json: bad", unique) == {"v1": {"v1": 1}}


@pytest.mark.parametrize("text", ["[" * 200_000, "9" * 5000, "{", "\ud800", "", "NaN x", '{"a": ' * 100_000])
def test_json_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match=r"^here: not JSON \(.*\)\.$"):
        parse_json(text, "here: not JSON")
    (tmp_path / "a.json").write_text(text, errors="surrogatepass")
    with pytest.raises(DataError, match=r"a\.json: not a readable json file"):
        read_json(tmp_path / "a.json")


def test_a_missing_line_end_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "whole.jsonl").write_text("a\n\u2028b\n")
    (tmp_path / "cut.jsonl").write_text("a\n\u2028b")
    assert read_lines(tmp_path / "whole.jsonl") == [(1, "a"), (2, "\u2028b")]
    assert not caplog.records
    assert read_lines(tmp_path / "cut.jsonl") == [(1, "a"), (2, "\u2028b")]
    assert "cut.jsonl: no line end after its last line; if the file was cut off" in caplog.text


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError(), "it asks for more memory than there is"), (RecursionError("deep"), "lists in lists"),
        (KeyError("a"), "KeyError 'a'"), (RuntimeError(), "RuntimeError"), (ValueError("a\nb  c"), "a b c"),
        (OSError(2, "No such file"), "No such file"), (ValueError("x" * 1000), "xxx..."),
    ],
)  # fmt: skip
def test_what_a_library_raises_becomes_one_line(error: Exception, told: str) -> None:
    with pytest.raises(DataError) as caught, reading("f: bad"):
        raise error
    assert str(caught.value).startswith("f: bad (") and told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, DataError])
def test_an_end_of_the_program_and_an_own_error_pass(error: type[BaseException]) -> None:
    with pytest.raises(error, match=r"^mine$"), reading("f: bad"):
        raise error("mine")


# -- names ------------------------------------------------------------------------------------------------------------

PATHS = [
    "../x",
    "a/../b",
    "/etc/passwd",
    "..",
    ".",
    "",
    " ",
    "a/b",
    "a\\b",
    "a\0b",
    "a\nb",
    "x" * (LONGEST + 1),
    "\ud800",
]


@pytest.mark.parametrize("name", PATHS)
def test_an_id_that_is_a_path_is_refused_by_name(name: str) -> None:
    with pytest.raises(DataError, match=r"^where: the id .* must not lead to another folder\.$"):
        file_name(name, "where")


@pytest.mark.parametrize("name", ["video7", "NUsG9BgSes0_210.0_360.0", "a..b", "Größe", ".x", "-x", "x" * LONGEST, 12])
def test_an_id_that_is_a_name_passes(name: object) -> None:
    assert file_name(name, "where") == str(name)


def test_ids_of_thousands_of_digits_are_sorted_and_split(tmp_path: Path) -> None:
    long = "video" + "7" * 5000
    names = ["video10", long, "video9", "video09", "clip"]
    assert sorted(names, key=natural) == ["clip", "video9", "video09", "video10", long]
    content = {"videos": [{"video_id": name} for name in names]}
    content["sentences"] = [{"video_id": name, "caption": "a man runs"} for name in names]
    (tmp_path / "c.json").write_text(json.dumps(content))
    assert [clip.id for clip in read_captions([tmp_path / "c.json"], fields_from("msrvtt"))][-1] == long
    with pytest.raises(DataError, match="are in none of the ranges"):
        by_number([Clip(long, long, ("a",))], {"train": (0, 10)})


# -- what is kept beside the data -------------------------------------------------------------------------------------


def test_a_kept_value_comes_back_and_a_damaged_one_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, value = tmp_path / ".kept.json", {"a": [1.5, None], "b": "text"}
    assert read_kept(path) is None and not caplog.records
    write_kept(path, value)
    assert read_kept(path) == value and [file.name for file in tmp_path.iterdir()] == [".kept.json"]
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        caplog.clear()
        assert read_kept(path) in (None, value)  # white space may change
        assert read_kept(path) == value or (f"{path}" in caplog.text and "It is made again." in caplog.text)
    path.write_bytes(whole)
    assert read_kept(path, lambda found: isinstance(found, list)) is None


def test_generated_data_that_cannot_be_written_are_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be written .*name another folder: data\.root=") as caught:
        build_once(tmp_path / "file" / "data", "mini", {"a": 1}, lambda folder: None)
    assert "\n" not in str(caught.value)

    def full(folder: Path) -> None:
        (folder / "a").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(DataError, match="No space left on device"):
        build_once(tmp_path / "data", "mini", {"a": 1}, full)
    assert [path.name for path in (tmp_path / "data").iterdir() if path.suffix != ".lock"] == []


def test_a_folder_that_can_only_be_read_and_has_the_data_is_enough(tmp_path: Path, monkeypatch) -> None:
    made = build_once(tmp_path, "mini", {"a": 1}, lambda folder: (folder / "a").write_text("a"))

    def refuse(*_, **__) -> None:
        raise PermissionError(13, "Permission denied")

    for name in ("mkdir", "write_text", "touch"):
        monkeypatch.setattr(Path, name, refuse)
    assert build_once(tmp_path, "mini", {"a": 1}, refuse) == made


def test_nothing_is_written_for_settings_of_somebody_else(tmp_path: Path) -> None:
    with nothing_kept():
        write_kept(tmp_path / ".kept.json", [1])
        with pytest.raises(DataError, match=r"a loaded run may not choose where to write them; name the folder"):
            build_once(tmp_path / "data", "mini", {"a": 1}, lambda folder: None)
    assert list(tmp_path.iterdir()) == []
    with nothing_kept(unless={"data.root"}):
        assert build_once(tmp_path / "data", "mini", {"a": 1}, lambda folder: None).is_dir()


def test_numpy_s_own_archive_of_a_stream_is_read(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, features=VALUES)
    (tmp_path / "v.npz").write_bytes(buffer.getvalue())
    np.testing.assert_array_equal(read_npz(tmp_path / "v.npz", "features", "v"), VALUES)
    with pytest.raises(DataError, match="no array 'featuers'; it has features"):
        read_npz(tmp_path / "v.npz", "featuers", "v")
