"""The project's programs as a user starts them, without the minutes that their libraries' imports would take in all.

>>> done = started("train.py", "experiment=madv2_lcaam", "scale=smoke")
>>> done.returncode, done.stdout, done.stderr

A server that has imported the libraries, and nothing of the project that is tested, forks a process per program; the
project's own modules are imported anew in each. A test of what is imported uses subprocess instead.
"""

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import threading
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# not wandb: its import makes a temporary folder, which the end of the first program would take from the others
LIBRARIES = ("torch", "pytorch_lightning", "torchmetrics", "hydra", "transformers", "matplotlib.pyplot")
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload([*LIBRARIES, "tests.freezing"])
# A process has one such server. What code under test asks it to import must not take the list's place: with the project
# in the server, programs would find modules that they have not imported.
multiprocessing.context.BaseContext.set_forkserver_preload = lambda context, names: None  # type: ignore[method-assign]


def started(*arguments: str, folder: Path = ROOT, timeout: float = 600, **environment: str):
    """What `python *arguments` gives in `folder`: a file with its arguments, -m and a module, or -c and code.

    environment: variables that differ from this process's. AssertionError if it does not end in `timeout` seconds.
    """
    with tempfile.TemporaryDirectory() as place:
        outputs = [Path(place, name) for name in ("stdout", "stderr")]
        settings = (tuple(map(str, arguments)), str(folder), {**os.environ, **environment}, outputs)
        process = SERVER.Process(target=run_alone, args=settings)
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise AssertionError(f"{' '.join(arguments)} did not end in {timeout} s:\n{outputs[1].read_text()[-3000:]}")
        texts = [path.read_text(encoding="utf-8") for path in outputs]
    return subprocess.CompletedProcess(["python", *arguments], process.exitcode, *texts)


def run_alone(arguments: tuple[str, ...], folder: str, environment: dict[str, str], outputs: list[Path]) -> None:
    """In a process of its own: becomes the program."""
    for stream, path in zip((1, 2), outputs, strict=True):
        os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND), stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[:] = [folder, *(place for place in sys.path if Path(place or ".").resolve() != ROOT)]
    for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
        del sys.modules[name]
    try:
        run(*arguments)
    finally:
        # as an interpreter does at its end; multiprocessing would wait for the program's idle processes instead
        threading._shutdown()
        atexit._run_exitfuncs()


def run(first: str, *rest: str) -> None:
    if first == "-c":
        sys.argv = ["-c", *rest[1:]]
        main = types.ModuleType("__main__")
        sys.modules["__main__"] = main
        exec(compile(rest[0], "<string>", "exec"), main.__dict__)
    elif first == "-m":
        sys.argv = list(rest)
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [first, *rest]
        runpy.run_path(first, run_name="__main__")
