"""METEOR's program: kept over evaluations, replaced when it died, never left behind; and its published golden value.

Its life is tested with a stand-in for Java that speaks its protocol; one slow test starts the real one.
"""

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.common import meteor
from tasks.common.caption_tokens import has_java
from tasks.common.captions import CaptionScorer, score_captions
from tasks.common.meteor import METEOR, Meteor, MeteorError
from tests.programs import started
from tests.tasks.common.test_captions import BLEU, GENERATED, REFERENCES

ROOT = Path(__file__).resolve().parents[3]
STAND_IN = """#!{python} -SE
# a caption's statistic is its number of words, the corpus' score their sum / 100
import sys
from pathlib import Path

folder = Path({folder!r})
with (folder / "starts").open("a") as file:
    print(*sys.argv[1:], file=file)
for line in sys.stdin:
    kind, *fields = (field.strip() for field in line.rstrip("\\n").split("|||"))
    with (folder / "questions").open("a") as file:
        print(kind, len(fields), file=file)
    words = fields[-1].split()
    if "die" in words and (folder / "deadly").exists():
        (folder / "deadly").unlink()
        sys.exit("no table 7")
    if "odd" in words:
        print("Error: how odd", flush=True)
    elif kind == "SCORE":
        print(float(len(words)), flush=True)
    else:
        print(*fields, sum(map(float, fields)) / 100, sep="\\n", flush=True)
"""
TWO = {"1": ["a dog", "a cat"], "2": ["a bird"]}


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """The folder in which the stand-in writes its starts and the questions that it gets."""
    java = tmp_path / "java"
    java.write_text(STAND_IN.format(python=sys.executable, folder=str(tmp_path)))
    java.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


@pytest.fixture
def program(stand_in):
    made = Meteor()
    yield made
    made.stop()


def starts(folder):
    return len((folder / "starts").read_text().splitlines()) if (folder / "starts").exists() else 0


def gone(pid):
    """Neither running nor a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_one_program_serves_all_evaluations_from_the_first_on(program, stand_in):
    assert program.process is None
    assert starts(stand_in) == 0
    assert program.score(TWO, {"1": ["one two"], "2": ["three"]}) == 0.03
    assert program.score(TWO, {"1": [""], "2": ["x"]}) == 0.01
    assert program.score({"1": TWO["1"]}, {"1": ["a b c d e"]}) == 0.05
    assert starts(stand_in) == 1


def test_a_caption_with_the_separator_in_it_stays_one_field(program, stand_in):
    program.score({"1": ["a ||| dog", "|||"]}, {"1": ["a ||| b"]})
    assert (stand_in / "questions").read_text() == "SCORE 3\nEVAL 1\n"


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_program_that_died_between_evaluations_is_replaced(program, stand_in, end):
    captions = {"1": ["one two"], "2": ["three"]}
    program.score(TWO, captions)
    first = program.process.pid
    os.kill(first, end)
    assert program.score(TWO, captions) == 0.03
    assert program.process.pid != first
    assert gone(first)
    assert starts(stand_in) == 2


def test_a_kept_program_that_dies_in_an_evaluation_is_replaced_and_says_why(program, stand_in, caplog):
    program.score(TWO, {"1": ["one"], "2": ["two"]})
    first = program.process.pid
    (stand_in / "deadly").touch()
    with caplog.at_level(logging.WARNING):
        assert program.score(TWO, {"1": ["one"], "2": ["you die now"]}) == 0.04
    assert "ended with status 1; it said: no table 7; starting it anew" in caplog.text
    assert gone(first)


def test_a_fresh_program_that_dies_stops_with_its_own_words(program, stand_in):
    (stand_in / "deadly").touch()
    with pytest.raises(MeteorError, match="ended with status 1; it said: no table 7"):
        program.score(TWO, {"1": ["die"], "2": ["b"]})
    assert program.process is None
    assert program.score(TWO, {"1": ["die"], "2": ["b"]}) == 0.02  # the next call starts another


def test_an_answer_that_is_no_number_is_shown(program, stand_in):
    with pytest.raises(MeteorError, match="answered 'Error: how odd' to 'SCORE .* so odd'"):
        program.score(TWO, {"1": ["one"], "2": ["so odd"]})


def test_an_interrupted_evaluation_leaves_no_answer_to_the_next(program, stand_in, monkeypatch):
    captions, asked = {"1": ["one two"], "2": ["three"]}, program.ask

    def interrupted(question, answers):
        program.process.stdin.write(question + "\n")
        program.process.stdin.flush()
        raise KeyboardInterrupt

    monkeypatch.setattr(program, "ask", interrupted)
    with pytest.raises(KeyboardInterrupt):
        program.score(TWO, captions)
    monkeypatch.setattr(program, "ask", asked)
    assert program.score(TWO, captions) == 0.03


def test_a_forked_process_leaves_its_parents_program_alone(program, stand_in):
    captions = {"1": ["one two"], "2": ["three"]}
    program.score(TWO, captions)
    kept = program.process
    child = os.fork()
    if child == 0:
        try:
            right = program.score(TWO, captions) == 0.03 and program.process.pid != kept.pid
            program.stop()
            os._exit(0 if right else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert starts(stand_in) == 2
    assert kept.poll() is None
    assert program.score(TWO, captions) == 0.03
    assert program.process is kept


@pytest.mark.parametrize("end", ["", "; import os, signal; os.kill(os.getpid(), signal.SIGKILL)"])
def test_the_program_ends_with_the_process(stand_in, end):
    script = "from tasks.common.meteor import METEOR; METEOR.score({1: ['a']}, {1: ['a']}); "
    script += "print(METEOR.process.pid, flush=True)" + end
    done = started("-c", script)
    assert "Traceback" not in done.stderr
    deadline = time.monotonic() + 10  # killed, its parent cannot wait for it: it reads its input's end by itself
    while not (ended := running(int(done.stdout)) is False) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert ended


def running(pid):
    """Not gone, and not a zombie either, which an orphan may stay if process 1 does not wait for orphans."""
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(found) and not found.startswith("Z")


def test_missing_java_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FileNotFoundError, match="METEOR is a Java program, and Java was not found: install"):
        Meteor().score(TWO, {"1": ["a"], "2": ["b"]})


@pytest.fixture(scope="module")
def real():
    """The shared program, ended afterwards."""
    if not has_java():
        pytest.skip("METEOR needs Java")
    yield METEOR
    METEOR.stop()


@pytest.mark.slow  # the program's start: 8 s on a free core, 28 s on a busy one
def test_all_metrics_equal_the_published_golden_values(real):
    """nlg-eval's README example; then more evaluations by the same program."""
    scorer = CaptionScorer(REFERENCES)
    golden = BLEU | {"rouge_l": 52.2104, "cider": 124.2192, "meteor": 29.5797}
    scores = scorer.score(GENERATED)
    assert list(scores) == list(golden)
    assert scores == pytest.approx(golden, abs=1e-4)
    kept = real.process.pid
    assert score_captions(GENERATED, REFERENCES, ["meteor"]) == {"meteor": scores["meteor"]}
    assert scorer.score({"1": "", "2": ""}) == dict.fromkeys(golden, 0.0)
    assert scorer.score({"1": "", "2": GENERATED["2"]})["meteor"] > 0
    assert scorer.score(GENERATED) == scores
    assert real.process.pid == kept
    assert meteor.METEOR is real
