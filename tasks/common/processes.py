"""Tasks in processes of their own: one that is killed or runs out of memory fails alone, and the others go on.

The processes are forked from a server that has imported the libraries once (multiprocessing's forkserver), so a task
does not pay the seconds that their import takes. Each process leads a group of its own: what a task leaves behind when
it dies (ranks, workers of a data loader) ends with it. If this process dies, its tasks get SIGTERM.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing import connection
from typing import Any

import cloudpickle

PRELOADED = ("torch", "pytorch_lightning", "torchmetrics", "transformers", "wandb", "matplotlib.pyplot", "scipy.stats")
GRACE = 60.0  # seconds that interrupted tasks get to close their records
METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


@dataclass(frozen=True)
class Died:
    """The process of a task ended before the task did."""

    exit_code: int

    def __str__(self) -> str:
        if self.exit_code >= 0:
            return f"its process ended with exit code {self.exit_code}"
        name = signal.Signals(-self.exit_code).name
        return f"killed by {name}{', perhaps because memory was used up' if name == 'SIGKILL' else ''}"


@dataclass
class Running:
    """A process and the tasks that it has still to answer, the one at work first."""

    process: Any
    receiver: connection.Connection
    left: deque[int] = field(default_factory=deque)


def run_all(
    work: Callable[[Any], Any],
    tasks: Sequence[Any],
    at_once: int,
    per_process: int = 1,
    told: Callable[[int, Any], None] = lambda index, result: None,
) -> list[Any]:
    """`[work(task) for task in tasks]`, `at_once` processes at a time; Died in the place of a result that never came.

    per_process: so many tasks after one another share a process. If it dies, those that had not begun get another one.
    told: called with each index and its result when it is there.
    Ctrl-C and SIGTERM are passed on to the tasks, which get a minute to end, and then raised.
    """
    context = multiprocessing.get_context(METHOD)
    if METHOD == "forkserver":
        context.set_forkserver_preload(list(PRELOADED))
    results: list[Any] = [None] * len(tasks)
    waiting = deque(deque(range(at, min(at + per_process, len(tasks)))) for at in range(0, len(tasks), per_process))
    running: list[Running] = []

    def take(one: Running) -> bool:
        """Takes one result; False if none is there and none will come."""
        try:
            if not one.receiver.poll():
                return False
            index, answer = one.receiver.recv()
        except (EOFError, OSError):
            return False
        results[index] = cloudpickle.loads(answer)
        one.left.remove(index)
        told(index, results[index])
        return True

    try:
        with terminated_is_interrupted():
            while waiting or running:
                while waiting and len(running) < at_once:
                    running.append(start(context, work, tasks, waiting.popleft()))
                there = connection.wait([handle for one in running for handle in (one.receiver, one.process.sentinel)])
                for one in [one for one in running if {one.receiver, one.process.sentinel} & set(there)]:
                    if take(one) or one.process.sentinel not in there:
                        continue  # a result, or the end of the pipe, which the process's own end follows
                    end(one)
                    running.remove(one)
                    if one.left:
                        results[index := one.left.popleft()] = Died(one.process.exitcode)
                        told(index, results[index])
                    if one.left:
                        waiting.appendleft(one.left)
    except KeyboardInterrupt:
        interrupt(running)
        raise
    return results


def start(context: Any, work: Callable, tasks: Sequence[Any], indices: deque[int]) -> Running:
    receiver, sender = context.Pipe(duplex=False)
    given = cloudpickle.dumps((work, [(index, tasks[index]) for index in indices]))
    process = context.Process(target=serve, args=(given, sender, dict(os.environ)))
    process.start()
    sender.close()
    return Running(process, receiver, indices)


def serve(given: bytes, sender: connection.Connection, environment: dict[str, str]) -> None:
    """In the process: answers the tasks in their order."""
    if hasattr(os, "setsid"):
        os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    os.environ.clear()
    os.environ.update(environment)  # the server has that of the first task
    threading.Thread(target=end_with_parent, daemon=True).start()
    work, tasks = cloudpickle.loads(given)
    for index, task in tasks:
        sender.send((index, cloudpickle.dumps(work(task))))


def end_with_parent() -> None:
    """Ends this process when the one that started it is gone, in two steps: a record can be closed after the first."""
    multiprocessing.parent_process().join()
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(GRACE)
    os.kill(os.getpid(), signal.SIGKILL)


def end(one: Running) -> None:
    """Waits for a process that ended, and ends what it left behind if it was killed."""
    one.process.join()
    one.receiver.close()
    if one.process.exitcode:
        with contextlib.suppress(ProcessLookupError, PermissionError, AttributeError):
            os.killpg(one.process.pid, signal.SIGKILL)


def interrupt(running: Sequence[Running]) -> None:
    """Tells all processes to end, and kills those that have not after a minute or at a second Ctrl-C."""
    for one in running:
        with contextlib.suppress(ProcessLookupError):
            os.kill(one.process.pid, signal.SIGINT)
    try:
        for one in running:
            one.process.join(GRACE)
    finally:
        for one in running:
            one.process.kill()
            end(one)


@contextlib.contextmanager
def terminated_is_interrupted():
    """SIGTERM and SIGHUP like Ctrl-C, so that tasks are told."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.signal(number, raise_interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def raise_interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)
