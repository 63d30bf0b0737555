"""Forks a process per run, so that the libraries are imported once, and waits for it."""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn


def started(log: Path, run: Callable[[], None], **environment: str) -> int:
    """Starts `run` in a process of its own, whose output goes to `log`. Returns the process."""
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process == 0:
        become(log, run, environment)
    return process


def become(log: Path, run: Callable[[], None], environment: dict[str, str]) -> NoReturn:
    """In the new process: runs and ends it, whatever happens, without the parent's clean-up."""
    code = 1
    try:
        os.setsid()
        log.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.environ.update(environment)
        run()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def ended(processes: list[int], seconds: float) -> list[int]:
    """The exit codes of processes (minus the signal's number if a signal ended one). If one was killed or failed, the
    others get ten seconds, then they are killed as well. TimeoutError if they take longer than `seconds`."""
    codes: dict[int, int] = {}
    until = time.monotonic() + seconds
    while len(codes) < len(processes):
        for process in processes:
            if process not in codes:
                found, status = os.waitpid(process, os.WNOHANG)
                if found:
                    codes[process] = os.waitstatus_to_exitcode(status)
                    if codes[process]:
                        until = min(until, time.monotonic() + 10)
        if time.monotonic() > until:
            late = not any(codes.values())
            for process in processes:
                if process not in codes:
                    os.killpg(process, signal.SIGKILL)
                    codes[process] = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
            if late:
                raise TimeoutError(f"a run did not end in {seconds} s")
        time.sleep(0.02)
    for process in processes:  # workers of a killed run
        try:
            os.killpg(process, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return [codes[process] for process in processes]
