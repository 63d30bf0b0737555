"""The readers of data files, each with a small whole file; video_readers.py has those of videos, model_readers.py those
of models and runs.

READERS["npz"].make(folder)      # writes the file
"""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from datamodules.audio_description.annotations import read_annotations
from datamodules.audio_description.npy import open_features
from datamodules.audio_description.rows import MovieFeatures
from datamodules.audio_description.splits import read_lists
from datamodules.audio_description.statistics import training_statistics
from datamodules.audio_description.titles import read_titles
from datamodules.audio_description.tracks import Track
from datamodules.image_classification.class_index import read_class_index
from datamodules.image_classification.folder import ImageFolder
from datamodules.image_classification.shards import ImageShards
from datamodules.image_classification.undecodable import undecodable
from datamodules.moment_retrieval.annotations import read_moments
from datamodules.packed import index_path, pack
from datamodules.pixels import decode
from datamodules.streams import StreamSettings, open_stream
from datamodules.video_captioning.captions import Clip, fields_from, read_captions
from datamodules.video_captioning.clips import Features
from datamodules.video_captioning.sources import FrameFolders
from datamodules.video_captioning.undecodable import unreadable
from scripts.torture.judging import Reader
from scripts.torture.video_readers import CONCEALED
from tasks.audio_description.predictions import read_predictions

WIDTH, ROWS = 8, 12
PAYLOAD = "numbers have no checksum"
LETTERS = "letters and digits of a text have no checksum"
DEEP = {"deep": lambda whole: b"[" * 200_000, "5,000 digits": lambda whole: b"9" * 5000}


def values(rows: int = ROWS) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((rows, WIDTH)).astype(np.float32)


def picture(side: int = 24, seed: int = 0) -> np.ndarray:
    """Smooth, so that it is worth compressing, with some noise."""
    draw, at = np.random.default_rng(seed), np.linspace(0, 200, side)
    smooth = np.stack([at[:, None] + 0 * at, 0 * at[:, None] + at, at[:, None] / 2 + at / 2], -1)
    return (smooth + draw.integers(0, 30, smooth.shape)).astype(np.uint8)


def header(shape: str) -> Callable[[bytes], bytes]:
    """An .npy file of a few bytes that announces an array of this shape."""

    def made(whole: bytes) -> bytes:
        text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
        return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + bytes(64)

    return made


HUGE = {"10^9 rows": header(f"({10**9}, {WIDTH})"), "10^12 rows": header(f"({10**12}, {WIDTH})")}


def open_in(archive: zipfile.ZipFile) -> Any:
    return archive.open("features.npy", "w", force_zip64=True)


def zip_bomb(whole: bytes) -> bytes:
    """2.4 MB that unpack to 2.4 GB: the right rows, and 75 million more, which need not be read."""
    rows, target = 75_000_000, io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive, open_in(archive) as file:
        start = header(f"({rows}, {WIDTH})")(b"")[:-64]
        first = values().tobytes()
        file.write(start + first)
        left = rows * WIDTH * 4 - len(first)
        for size in (*[2**20] * (left // 2**20), left % 2**20):
            file.write(bytes(size))
    return target.getvalue()


# -- streams and movies -----------------------------------------------------------------------------------------------


def make_h5(folder: Path) -> Path:
    path = folder / "pictures.h5"
    with h5py.File(path, "w") as file:
        for movie in ("0017", "0034"):
            file[movie] = values()
    return path


def all_rows(features: MovieFeatures) -> dict[str, np.ndarray]:
    lengths = features.lengths(["0017", "0034"])
    return {movie: features.read(movie, 0, length) for movie, length in lengths.items()}


def make_movies(folder: Path) -> Path:
    (folder / "movies").mkdir()
    for movie in ("0017", "0034"):
        np.save(folder / "movies" / f"{movie}.npy", values())
    return folder / "movies" / "0017.npy"


def make_npz(save: Callable) -> Callable[[Path], Path]:
    def made(folder: Path) -> Path:
        (folder / "stream").mkdir()
        save(folder / "stream" / "v1.npz", features=values())
        return folder / "stream" / "v1.npz"

    return made


def make_npy(folder: Path) -> Path:
    (folder / "stream").mkdir()
    np.save(folder / "stream" / "v1.npy", values())
    return folder / "stream" / "v1.npy"


def stream_of(root: Path, path: str, suffix: str) -> Any:
    return open_stream(root, "clips", StreamSettings(path=path, dim=WIDTH, file=f"{{vid}}{suffix}"))


def first_rows(path: Path) -> np.ndarray:
    return stream_of(path.parent.parent, "stream", path.suffix).read(path.name, about="vid v1", limit=ROWS)


def make_packed(folder: Path) -> Path:
    path = folder / "stream.packed.npy"
    pack([("v1", values(5)), ("v2", values(7))], 12, WIDTH, path, np.dtype("float32"))
    return path


def packed_rows(path: Path) -> list[np.ndarray]:
    stream = stream_of(path.parent, "stream.packed.npy", ".npy")
    return [stream.read(f"{name}.npy", about=name) for name in ("v1", "v2")]


# -- texts ------------------------------------------------------------------------------------------------------------


def text(name: str, content: str) -> Callable[[Path], Path]:
    def made(folder: Path) -> Path:
        (folder / name).write_text(content, encoding="utf-8")
        return folder / name

    return made


def csv_of(columns: str, row: str, count: int = 12) -> str:
    return "\n".join([columns, *(row.format(i=i, end=i + 2) for i in range(count)), ""])


def lines(rows: list[dict]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def moment(i: int) -> dict:
    return {"qid": i, "query": f"A girl cooked meal {i}.", "duration": 20, "vid": f"v{i}", "relevant_windows": [[2, 8]],
            "relevant_clip_ids": [1, 2, 3], "saliency_scores": [[1, 2, 3], [2, 2, 3], [4, 3, 3]]}  # fmt: skip


def prediction(i: int) -> dict:
    return {"movie": f"00{i:02}", "start": i, "end": i + 2, "text_gt": f"He opens door {i}.", "text_gen": "She runs."}


MSRVTT = {
    "videos": [{"video_id": f"video{i}", "split": "train" if i < 8 else "test"} for i in range(10)],
    "sentences": [{"video_id": f"video{i}", "caption": f"a man is cooking meal {i}"} for i in range(10)],
}
MAD = {f"id{i}": {"movie": "0017", "timestamps": [i, i + 2], "sentence": f"He opens door {i}."} for i in range(10)}


# -- pictures and caches ----------------------------------------------------------------------------------------------


def make_png(folder: Path) -> Path:
    from PIL import Image

    Image.fromarray(picture()).save(folder / "picture.png")
    return folder / "picture.png"


def png_that_asks(whole: bytes) -> bytes:
    """The header announces 100,000 x 100,000 pixels, with the right checksum."""
    import zlib

    chunk = b"IHDR" + (100_000).to_bytes(4, "big") * 2 + whole[24:29]
    return whole[:12] + chunk + zlib.crc32(chunk).to_bytes(4, "big") + whole[33:]


def make_jpeg(folder: Path) -> Path:
    from PIL import Image

    (folder / "frames" / "video1").mkdir(parents=True)
    for number in range(1, 4):
        Image.fromarray(picture(seed=number)).save(folder / "frames" / "video1" / f"{number:04d}.jpg")
    return folder / "frames" / "video1" / "0002.jpg"


def make_parquet(folder: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"image": {"bytes": bytes([i]) * 40, "path": f"{i}.png"}, "label": i % 3} for i in range(9)]
    schema = pa.schema([("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.int64())])
    pq.write_table(
        pa.Table.from_pylist(rows, schema), folder / "train-0.parquet", row_group_size=3, write_page_checksum=True
    )
    return folder / "train-0.parquet"


def all_images(path: Path) -> list:
    split = ImageShards(path.parent, "*.parquet")
    return [split.labels, split.names, [split.read(index) for index in range(len(split))]]


def track_of(folder: Path) -> Track:
    return Track(open_features(folder / "pictures.h5", WIDTH), WIDTH, ["0017", "0034"], np.array([[0, 1], [2, -1]]))


def statistics(path: Path) -> list:
    return list(training_statistics(track_of(path.parent), path.parent / "pictures.h5", ("standard",)))


def make_statistics(folder: Path) -> Path:
    statistics(make_h5(folder))
    return next(folder.glob(".*statistics*"))


def unreadable_clips(path: Path) -> dict[str, str]:
    clips = [Clip(name, name, ("a caption",)) for name in ("v1", "v2")]
    source = Features(stream_of(path.parent, "stream", ".npy"), ROWS)
    return unreadable(clips, source, [(1, 1), (2, 2)], path.parent)


def make_unreadable(folder: Path) -> Path:
    make_npy(folder)
    (folder / "stream" / "v2.npy").write_bytes(b"no array")
    unreadable_clips(folder / "any")
    return next(folder.glob(".unreadable*"))


def undecodable_images(path: Path) -> dict[str, str]:
    return undecodable(ImageFolder(path.parent / "train"), path.parent)


def make_undecodable(folder: Path) -> Path:
    (folder / "train" / "n01").mkdir(parents=True)
    make_png(folder / "train" / "n01")
    (folder / "train" / "n01" / "broken.png").write_bytes(b"no picture")
    undecodable_images(folder / "any")
    return next(folder.glob(".undecodable*"))


DATA = [
    Reader("h5", make_h5, lambda path: all_rows(open_features(path, WIDTH)), PAYLOAD),
    Reader("npz", make_npz(np.savez), first_rows, asking={"zip bomb": zip_bomb}),
    Reader("npz, deflated", make_npz(np.savez_compressed), first_rows),
    Reader("npy, stream", make_npy, first_rows, PAYLOAD, HUGE),
    Reader("npy, MAD folder", make_movies, lambda path: all_rows(open_features(path.parent, WIDTH)), PAYLOAD, HUGE),
    Reader("npy, packed", make_packed, packed_rows, PAYLOAD, HUGE),
    Reader("packed index", lambda folder: index_path(make_packed(folder)),
           lambda path: packed_rows(path.with_suffix(".npy")), LETTERS, DEEP),
    Reader("csv annotations", text("train.csv", csv_of("movie,start,end,text", "0017,{i},{end},He opens door {i}.")),
           lambda path: read_annotations(path).to_dict("list"), LETTERS),
    Reader("json MAD-v1", text("mad.json", json.dumps(MAD)), lambda path: read_annotations(path).to_dict("list"),
           LETTERS, DEEP),
    Reader("json split", text("split.json", json.dumps({"TRAIN": ["0017", "0034"], "EVAL": ["0051", "0068"]})),
           read_lists, LETTERS, DEEP),
    Reader("json titles", text("mad2imdb.json", json.dumps({"0017": "tt01", "0034": "tt02"})), read_titles, LETTERS,
           DEEP),
    Reader("json MSR-VTT", text("MSRVTT.json", json.dumps(MSRVTT)),
           lambda path: [vars(clip) for clip in read_captions([path], fields_from("msrvtt"))], LETTERS,
           DEEP | {"an id of 5,000 digits": lambda whole: whole.replace(b"video3", b"video" + b"3" * 5000)}),
    Reader("json class index", text("index.json", json.dumps({str(i): [f"n0{i}", f"name {i}"] for i in range(10)})),
           lambda path: vars(read_class_index(path)), LETTERS, DEEP),
    Reader("jsonl moments", text("highlight.jsonl", lines([moment(i) for i in range(6)])),
           lambda path: read_moments(path, clip_length=2.0, saliency=True), LETTERS, DEEP),
    Reader("jsonl predictions", text("test.jsonl", lines([prediction(i) for i in range(8)])),
           lambda path: read_predictions(path)._asdict(), LETTERS, DEEP),
    Reader("csv predictions",
           text("test.csv", csv_of("movie,start,end,text_gt,text_gen", "00{i},{i},{end},He runs {i}.,No.")),
           lambda path: read_predictions(path).rows, LETTERS),
    Reader("png", make_png, lambda path: np.asarray(decode(path.read_bytes(), str(path))),
           asking={"100,000 x 100,000 pixels": png_that_asks}),
    Reader("jpeg", make_jpeg, lambda path: FrameFolders(path.parents[1]).frames(Clip("video1", "video1", ()), 3),
           CONCEALED),
    Reader("parquet", make_parquet, all_images),
    Reader("cache: statistics", make_statistics, statistics),
    Reader("cache: unreadable clips", make_unreadable, unreadable_clips),
    Reader("cache: undecodable images", make_undecodable, undecodable_images),
]  # fmt: skip
