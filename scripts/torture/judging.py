"""What became of a damaged file: it is put in its place, read, and the result compared with that of the whole file."""

import hashlib
import logging
import multiprocessing
import resource
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from configs.errors import ConfigError
from datamodules.errors import DataError
from tasks.audio_description.predictions import PredictionsError
from tasks.common.errors import CheckpointError
from tasks.moment_retrieval.submission import SubmissionError

OWN = (ConfigError, DataError, CheckpointError, PredictionsError, SubmissionError)
OUTCOMES = ("right", "clear", "said", "wrong", "not named", "raw", "hang")
SECONDS, MEMORY = 10, 3 * 2**30  # for one file


@dataclass(frozen=True)
class Reader:
    """A way to read a file.

    make: writes the whole file, and what it needs beside it, into a folder; returns the file to damage.
    read: what is read from it. asking: small files that ask for much, by name, made from the whole one.
    why: why other values may pass unseen; "" if none may.
    """

    name: str
    make: Callable[[Path], Path]
    read: Callable[[Path], Any]
    why: str = ""
    asking: Mapping[str, Callable[[bytes], bytes]] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """One of OUTCOMES, and what was said."""

    outcome: str
    told: str = ""


def judged(reader: Reader, path: Path, data: bytes, expected: str) -> Verdict:
    """What becomes of `data` in the place of the file. `expected`: fingerprint of what the whole file holds."""
    path.write_bytes(data)
    with warnings_about(path.name) as heard:
        try:
            found = fingerprint(reader.read(path))
        except OWN as error:
            named = path.name in str(error)
            return Verdict("clear" if named else "not named", str(error))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return Verdict("raw", f"{type(error).__name__}: {error}"[:500])
    if found == expected:
        return Verdict("right")
    return Verdict("said", heard[0]) if heard else Verdict("wrong")


@contextmanager
def warnings_about(name: str) -> Iterator[list[str]]:
    """The warnings in the log, inside, that name a file."""
    heard: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.WARNING and name in record.getMessage():
                heard.append(record.getMessage())

    listener = Listener()
    logging.getLogger().addHandler(listener)
    try:
        yield heard
    finally:
        logging.getLogger().removeHandler(listener)


def fingerprint(value: Any) -> str:
    """A hash of plain values, arrays and tensors."""
    digest = hashlib.sha256()

    def add(one: Any) -> None:
        if isinstance(one, torch.Tensor):
            one = one.detach().cpu().to(torch.float64 if one.is_floating_point() else torch.int64).numpy()
        if isinstance(one, np.ndarray):
            digest.update(f"{one.shape} {one.dtype}".encode() + np.ascontiguousarray(one).tobytes())
        elif isinstance(one, Mapping):
            for key, item in one.items():
                digest.update(f"key {key!r}".encode(errors="backslashreplace"))
                add(item)
        elif isinstance(one, (list, tuple)):
            digest.update(f"{len(one)} items".encode())
            for item in one:
                add(item)
        else:
            digest.update(repr(one).encode(errors="backslashreplace"))

    add(value)
    return digest.hexdigest()


class Worker:
    """A process that reads files for one reader, with limits; it is started again when it dies or does not answer."""

    def __init__(self, reader: str, path: Path, expected: str):
        self.settings = (reader, path, expected)
        self.process: multiprocessing.process.BaseProcess | None = None

    def judge(self, data: bytes) -> Verdict:
        if self.process is None or not self.process.is_alive():
            self._start()
        self.pipe.send_bytes(data)
        try:
            if self.pipe.poll(SECONDS):
                return self.pipe.recv()
            told = f"no answer in {SECONDS} s"
        except EOFError:
            told = "the process died"
        self.stop()
        return Verdict("hang", told)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.process = None

    def _start(self) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["torch", "pytorch_lightning", "transformers", "scripts.torture.files"])
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other, *self.settings), daemon=True)
        self.process.start()
        other.close()
        self.pipe.recv()  # it is ready: what follows is the time of reading


def serve(pipe: Any, name: str, path: Path, expected: str) -> None:
    """In the worker: answers each file with a Verdict."""
    from scripts.torture.files import READERS

    torch.set_num_threads(1)
    logging.getLogger().setLevel(logging.WARNING)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()  # what the libraries map
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    reader = READERS[name]
    pipe.send("ready")
    while True:
        try:
            data = pipe.recv_bytes()
        except EOFError:
            return
        pipe.send(judged(reader, path, data, expected))
