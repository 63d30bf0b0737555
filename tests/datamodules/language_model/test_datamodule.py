"""Parts of a text and their windows: nothing is lost, nothing comes twice, a stopped run goes on."""

from collections import Counter
from pathlib import Path

import pytest
import torch

from datamodules.errors import DataError
from datamodules.language_model import Texts
from datamodules.language_model.files import text_of
from datamodules.language_model.windows import PADDING, Windows

SIZES = {"context": 5, "batch_size": 3, "eval_batch_size": 4}


def numbered(count: int) -> str:
    """A text without a character that comes twice."""
    return "".join(chr(0x4E00 + number) for number in range(count))


@pytest.fixture
def data(tmp_path: Path):
    def make(text: str, **changes) -> Texts:
        path = tmp_path / "text.txt"
        path.write_text(text, encoding="utf-8")
        return Texts(**{"root": str(tmp_path), "files": str(path), **SIZES, **changes})

    return make


def batches(loader) -> list[dict]:
    return list(loader)


@pytest.mark.parametrize(("count", "sizes"), [(200, (180, 10, 10)), (103, (93, 5, 5)), (101, (91, 5, 5))])
def test_the_text_is_cut_into_parts_in_their_order(data, count: int, sizes: tuple) -> None:
    text, made = numbered(count), data(numbered(count))
    made.prepare_data()
    parts = [text_of(made.text(split)) for split in ("train", "val", "test")]
    assert "".join(parts) == text and tuple(map(len, parts)) == sizes
    assert made.facts() == {"context": 5, "characters": "".join(sorted(parts[0]))}
    assert made.oracle() is None


def test_without_a_test_part_the_test_is_on_the_validation_part(data, caplog) -> None:
    made = data(numbered(100), parts=[0.9, 0.1, 0.0])
    made.prepare_data()
    assert made.text("test").tolist() == made.text("val").tolist() and len(made.text("val")) == 10
    assert "the test is on the validation part" in caplog.text


@pytest.mark.parametrize("left", [0, 1, 2, 4])
def test_an_evaluation_has_every_character_but_the_first_as_a_target_once(data, left: int) -> None:
    made = data(numbered(200 + left), parts=[0.5, 0.25, 0.25])
    part = made.text("test").tolist()
    found = torch.cat([batch["characters"] for batch in made.test_dataloader()])
    assert found.shape == (-(-(len(part) - 1) // 5), 6)
    targets = found[:, 1:][found[:, 1:] != PADDING]
    assert targets.tolist() == part[1:]
    assert (found[:-1] != PADDING).all()  # the last window alone is filled up
    names = [name for batch in made.test_dataloader() for name in batch["name"]]
    assert names == [f"test {5 * number}" for number in range(len(found))]


def test_an_epoch_has_every_window_once_from_another_place_than_the_next(data) -> None:
    made = data(numbered(120))
    torch.manual_seed(3)
    loader, starts = made.train_dataloader(), []
    part = made.text("train").tolist()
    for epoch in range(4):
        loader.sampler.set_epoch(epoch)
        seen: Counter[int] = Counter()
        for batch in batches(loader):
            assert batch["characters"].dtype == torch.int64 and batch["characters"].shape == (3, 6)
            for name, window in zip(batch["name"], batch["characters"].tolist(), strict=True):
                start = int(name.removeprefix("train "))
                assert window == part[start : start + 6]
                seen.update(window[:-1])
        assert set(seen.values()) == {1}  # none twice
        assert len(seen) >= len(part) - 5 - 3 * 5  # what the random start and the last short batch leave out
        starts.append(min(part.index(code) for code in seen))
    assert len(set(starts)) > 1


def test_the_same_seed_repeats_and_a_stopped_epoch_goes_on(data) -> None:
    torch.manual_seed(3)
    whole = [batch["name"] for batch in data(numbered(120)).train_dataloader()]
    torch.manual_seed(3)
    loader = data(numbered(120)).train_dataloader()
    reading = iter(loader)
    assert [next(reading)["name"] for _ in range(2)] == whole[:2]
    state = loader.state_dict()
    torch.manual_seed(3)
    again = data(numbered(120), num_workers=1).train_dataloader()
    again.load_state_dict(state)
    assert [batch["name"] for batch in again] == whole[2:]
    torch.manual_seed(4)
    assert [batch["name"] for batch in data(numbered(120)).train_dataloader()] != whole


@pytest.mark.parametrize("length", [10, 11, 14, 15, 16])
def test_the_shortest_training_texts_have_windows_that_fit(length: int) -> None:
    windows = Windows(torch.arange(length).numpy(), 5, "train")
    windows.shifts = {}
    from datamodules.loading import Draw

    assert len(windows) == length // 5 - 1
    for epoch in range(20):
        for index in range(len(windows)):
            found = windows.__getitems__([Draw(index, epoch, 0)])["characters"]
            assert (found != PADDING).all()


@pytest.mark.parametrize(
    ("changes", "count", "message"),
    [
        ({}, 10, r"data.files: a text of 10 characters is too short: its part train \(data.parts=\[0.9, 0.05, 0.05\]\) "
                 r"has 9, and needs at least 10 with data.context=5$"),
        ({}, 30, r"its part test .* has 1, and needs at least 2"),
        ({"parts": [0.9, 0.01, 0.09]}, 60, r"its part val .* has 1, and needs at least 2"),
        ({"files": None}, 30, r"text: data.files is not set; name a text file, such as data.files=input.txt"),
    ],
)  # fmt: skip
def test_a_text_that_is_too_short_or_not_named_is_told(data, changes: dict, count: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        data(numbered(count), **changes).prepare_data()


@pytest.mark.parametrize("parts", [[0.9, 0.1], [0.9, 0.0, 0.1], [0.0, 0.5, 0.5], [0.9, 0.05, 0.1], [0.9, 0.2, -0.1]])
def test_parts_are_three_shares(data, parts: list[float]) -> None:
    with pytest.raises(DataError, match=r"data.parts: .* is out of range; allowed: three shares that add up to 1"):
        data(numbered(100), parts=parts)


def test_files_take_the_place_of_generated_text(data, tmp_path: Path) -> None:
    made = data(numbered(100), mini={"characters": 1000, "facts": 2})
    made.prepare_data()
    assert text_of(made.text("train")) == numbered(90)
    assert made.oracle() is None and not list(tmp_path.glob("text-mini*"))
