"""Signals that end a run: the training stops at the end of a step and saves first; a second signal stops it at once.

    with INTERRUPTS.installed():                  # SIGTERM, SIGINT, SIGHUP, and in a SLURM job SIGUSR1
        INTERRUPTS.defer()                        # from here on a signal waits ...
        if INTERRUPTS.pending: save()
        INTERRUPTS.release()                      # ... until here: raises what is pending

A stopped process ends with 128 + the signal's number, as shells and schedulers expect: 143, 130, 129, 138.
"""

import logging
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

log = logging.getLogger(__name__)


class Terminated(KeyboardInterrupt):
    """A signal that ends the run, as an exception: it unwinds like Ctrl-C, so that the record is closed."""

    number = signal.SIGTERM


class Interrupts:
    """The signals that arrived, and whether they wait for a save. One for the process, as signals are."""

    def __init__(self) -> None:
        self.pending: signal.Signals | None = None
        self.deferred = False

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handles the signals inside. Only the main thread can; elsewhere nothing changes."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in signals()}
        self.pending, self.deferred = None, False
        self.install()
        try:
            yield
        finally:
            self.deferred = False
            for number, handler in before.items():
                signal.signal(number, handler)

    def install(self) -> None:
        """Sets the handlers, also in place of Lightning's, which for SIGTERM talks to the other ranks amid a step."""
        if threading.current_thread() is threading.main_thread():
            for number in signals():
                signal.signal(number, self.handle)

    def handle(self, number: int, frame: FrameType | None) -> None:
        again, self.pending = self.pending is not None, signal.Signals(number)
        if not self.deferred or again:
            self.deferred = False
            raise exception_of(self.pending)
        log.warning("%s: saving at the end of this step, then stopping; once more stops at once", self.pending.name)

    def defer(self) -> None:
        self.install()
        self.deferred = True

    def release(self, number: signal.Signals | None = None) -> None:
        """Lets signals stop the run at once again. Raises what is pending, or `number`, which another rank got."""
        self.deferred = False
        if found := self.pending or number:
            raise exception_of(found)


INTERRUPTS = Interrupts()


def signals() -> list[signal.Signals]:
    """SIGUSR1 is what `sbatch --signal=USR1@120` sends before a job's time is over."""
    slurm = [signal.SIGUSR1] if "SLURM_JOB_ID" in os.environ else []
    return [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, *slurm]


def exception_of(number: signal.Signals) -> KeyboardInterrupt:
    error = KeyboardInterrupt(number.name) if number == signal.SIGINT else Terminated(number.name)
    error.number = number
    return error


def interruption(error: BaseException | None) -> KeyboardInterrupt | None:
    """The signal's exception in what ended a run: Lightning turns it into SystemExit. None for other errors."""
    if isinstance(error, SystemExit):
        error = error.__context__
    return error if isinstance(error, KeyboardInterrupt) else None


@contextmanager
def exit_codes() -> Iterator[None]:
    """Ends the process with 128 + the signal's number if a signal ended the block."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as error:
        if (found := interruption(error)) is None:
            raise
        raise SystemExit(128 + getattr(found, "number", signal.SIGINT)) from error


def requeue() -> None:
    """Puts this SLURM job into the queue again; its command begins anew, and with resume=auto it goes on."""
    array, job = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_JOB_ID")
    name = f"{array}_{os.environ.get('SLURM_ARRAY_TASK_ID')}" if array else job
    try:
        done = subprocess.run(["scontrol", "requeue", str(name)], capture_output=True, text=True, check=False)
        problem = done.stderr.strip() if done.returncode else ""
    except OSError as error:
        problem = str(error)
    if problem:
        log.error("SLURM job %s was not put into the queue again: %s", name, problem)
    else:
        log.warning("SLURM job %s is in the queue again", name)
