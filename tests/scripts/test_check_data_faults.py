"""Each planted fault of MAD's files is found and named, alone and among others; what is said to stop training does."""

import re
import shutil
from pathlib import Path

import pytest

from datamodules.audio_description import Descriptions
from datamodules.errors import DataError
from scripts.checks import mad_rows, mad_splits, madv2
from tests.datamodules.audio_description.small import FILES, KEYWORDS, read_rows, write_rows
from tests.scripts.mad_faults import FAULTS, check, found, write_faultless


@pytest.fixture(scope="module")
def faultless(tmp_path_factory) -> Path:
    return write_faultless(tmp_path_factory.mktemp("set"))


@pytest.fixture
def folder(faultless, tmp_path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(faultless, tmp_path / "madv2"))


MORE = {"leading zeros lost": 6, "duration unlike the features": 3}  # movies; elsewhere the fault is found once


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_and_named_and_nothing_else(folder, name):
    damage, kind, where, text = FAULTS[name]
    damage(folder)
    findings = found(check(folder))
    also = {mad_rows.UNSORTED} if name == "end before start" else set()  # the row before it began earlier
    assert set(findings) - also == {kind}
    ((place, names),) = findings[kind].items()
    assert where in place and re.search(text, names[0]), (place, names)
    assert len(names) == MORE.get(name, 1)


def open_set(folder):
    data = Descriptions(**KEYWORDS, root=str(folder))
    data.prepare_data()
    data.setup()


@pytest.mark.parametrize("name", [name for name, (_, kind, *_) in FAULTS.items() if madv2.STOPPING in kind])
def test_what_is_said_to_stop_training_stops_it(folder, name):
    FAULTS[name][0](folder)
    with pytest.raises(DataError):
        open_set(folder)


@pytest.mark.parametrize("name", [name for name, (_, kind, *_) in FAULTS.items() if madv2.STOPPING not in kind])
def test_what_is_not_said_to_stop_training_does_not(folder, name):
    FAULTS[name][0](folder)
    open_set(folder)


def test_many_faults_at_once_are_all_found(folder):
    """None hides another: each in a place of its own."""
    rows = [
        "negative start",
        "empty sentence",
        "byte 0x80",
        "ends after its movie",
        "row twice",
        "begins after its movie",
    ]
    lists = ["listed movie without description", "movie listed twice", "evaluation movie in the training list"]
    files = ["another width", "tracks more than a second apart", "film in training and validation"]
    for name in (names := [*rows, *lists, *files]):
        FAULTS[name][0](folder)
        if name in rows[:3]:  # they change the first row: the next one finds another there
            head, *others = read_rows(folder / FILES.train)
            write_rows(folder / FILES.train, [head, *others[1:], others[0]])
    assert {FAULTS[name][1] for name in names} <= set(found(check(folder)))


def test_a_check_that_finds_nothing_else_asks_the_data_module(folder):
    """0 validation movies of 6 are left out by number, 6 of 6 cannot be."""
    assert check(folder, val_split=5).found == 0
    findings = found(check(folder, val_split=6))
    assert list(findings) == [mad_splits.UNUSABLE] and "data.val_split=6" in str(findings)
