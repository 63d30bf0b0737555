"""Another of the project's programs, which ends when this one is told to end."""

import signal
import subprocess
import sys
from types import FrameType

from configs.resolvers import ROOT

ENDS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


def called(first: str, *rest: str) -> int:
    """The exit status of `python first *rest`; first: a file of the project's root, or -m.

    SIGTERM and SIGHUP are passed on, and raised as SystemExit when the program has saved and ended. A terminal sends
    Ctrl-C to both.
    """
    words = [str(ROOT / first) if first.endswith(".py") else first, *rest]
    told: list[int] = []
    child = subprocess.Popen([sys.executable, *words])

    def pass_on(number: int, frame: FrameType | None) -> None:
        told.append(number)
        child.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in ENDS}
    try:
        status = child.wait()
    except KeyboardInterrupt:
        child.wait()
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if told:
        raise SystemExit(128 + told[0])
    return status
