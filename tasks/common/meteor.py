"""METEOR 1.5 by its own program, kept running: its start takes 8 s or more, about as long as scoring 1,000 captions.

    >>> METEOR.score({"17": ["a dog is running"]}, {"17": ["a dog runs"]})
    0.31...

The program is pycocoevalcap's jar with its options, so the values are those that the field reports. It starts with the
first evaluation, serves all later ones of this process, and ends with it.
"""

import atexit
import logging
import os
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

log = logging.getLogger(__name__)

# the serial collector: half the memory (0.6 GB) and a faster start than Java's own choice
COMMAND = ("java", "-XX:+UseSerialGC", "-Xmx2G", "-jar", "meteor-1.5.jar", "-", "-", "-stdio", "-l", "en", "-norm")


class MeteorError(RuntimeError):
    """The METEOR program ended, or did not understand its input; the message holds its own words."""


class Meteor:
    """One METEOR program. `METEOR`, below, is the one that all callers share."""

    def __init__(self):
        self.process: subprocess.Popen | None = None
        self.owner = os.getpid()
        self.lock = threading.RLock()

    def score(self, references: dict[str, list[str]], captions: dict[str, list[str]]) -> float:
        """The corpus score, in [0, 1]: statistics are summed over captions first, in `references`' order.

        Both hold tokenised sentences, `captions` one per id. A program that died since the last call is replaced.
        Raises MeteorError if a fresh one fails as well, FileNotFoundError without Java.
        """
        with self.lock:
            kept = self.runs()
            try:
                return self.evaluate(references, captions)
            except MeteorError as error:
                if not kept:
                    raise
                log.warning("%s; starting it anew", error)
                return self.evaluate(references, captions)

    def evaluate(self, references: dict[str, list[str]], captions: dict[str, list[str]]) -> float:
        self.start()
        try:
            statistics = []
            for name, sentences in references.items():
                fields = [text.replace("|||", "").replace("  ", " ") for text in (*sentences, *captions[name])]
                statistics += self.ask(" ||| ".join(["SCORE", *fields]), 1)
            # a score for each caption, then that of the corpus
            return float(self.ask(" ||| ".join(["EVAL", *statistics]), len(statistics) + 1)[-1])
        except BaseException:  # also Ctrl-C: a late answer would be taken for that of the next question
            self.stop()
            raise

    def ask(self, question: str, answers: int) -> list[str]:
        try:
            self.process.stdin.write(question + "\n")
            self.process.stdin.flush()
            lines = [self.process.stdout.readline() for _ in range(answers)]
        except BrokenPipeError:
            lines = [""]
        if "" in lines:
            status = self.process.wait()
            self.said.seek(0)
            said = self.said.read().decode(errors="replace").strip()
            raise MeteorError(f"METEOR's program ended with status {status}; it said: {said or 'nothing'}")
        for line in lines:
            if not line[0].isdigit():
                raise MeteorError(f"METEOR's program answered {line.strip()!r} to {question[:200]!r}")
        return [line.strip() for line in lines]

    def runs(self) -> bool:
        """Whether a program of this process runs; one that the parent process started does not count."""
        return self.process is not None and self.owner == os.getpid() and self.process.poll() is None

    def start(self) -> None:
        """Starts the program unless it runs. Returns at once; the first answer waits until it has read its tables."""
        with self.lock:
            if not self.runs():
                self.stop()
                self.launch()

    def launch(self) -> None:
        if shutil.which(COMMAND[0]) is None:
            raise FileNotFoundError(
                "METEOR is a Java program, and Java was not found: install a Java runtime (Debian: "
                "default-jre-headless; conda: openjdk)"
            )
        from pycocoevalcap.meteor import meteor as field

        # not a pipe: one that nobody reads would fill up and stop the program
        self.said = tempfile.TemporaryFile()  # noqa: SIM115
        self.owner = os.getpid()
        self.process = subprocess.Popen(
            COMMAND,
            cwd=Path(field.__file__).parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.said,
            encoding="utf-8",
        )
        atexit.register(self.stop)

    def stop(self) -> None:
        """Ends the program and waits for it; the next evaluation starts another."""
        process, self.process = self.process, None
        if process is None or self.owner != os.getpid():  # a fork's copy: the parent process ends its own program
            return
        atexit.unregister(self.stop)
        process.kill()
        process.communicate()  # closes the pipes, leaves no zombie
        self.said.close()


METEOR = Meteor()
