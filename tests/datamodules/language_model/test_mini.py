"""The generated text: a language with agreement and memory, whose probabilities are known."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

from datamodules.errors import DataError
from datamodules.language_model import Texts
from datamodules.language_model.files import text_of
from datamodules.language_model.mini.generator import ORACLE, TEXT, MiniSettings, write_mini
from datamodules.language_model.mini.grammar import COUNTS, PEOPLE, THINGS, Teller, nats_of

FACT = re.compile(rf"({'|'.join(PEOPLE)}) has ((?:{'|'.join(COUNTS)}) \w+ \w+)\.")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[str, np.ndarray]:
    folder = write_mini(tmp_path_factory.mktemp("mini"), MiniSettings(characters=20_000, facts=3), seed=1)
    return (folder / TEXT).read_text(encoding="utf-8"), np.load(folder / ORACLE)


def test_the_same_settings_give_the_same_bytes_and_another_seed_other_ones(tmp_path: Path) -> None:
    settings, texts = MiniSettings(characters=500, facts=2), []
    for place, seed in (("a", 1), ("b", 1), ("c", 2)):
        folder = write_mini(tmp_path / place, settings, seed=seed)
        texts.append([(folder / name).read_bytes() for name in (TEXT, ORACLE)])
    assert texts[0] == texts[1] and texts[0][0] != texts[2][0]
    assert len(texts[0][0]) == 500


def test_answers_are_what_was_said_and_every_fact_is_asked_once(made) -> None:
    text, _ = made
    stories = text.split("\n")[:-1]  # the last one is cut off
    assert {len(FACT.findall(story)) for story in stories} == {1, 2, 3}
    for story in stories:
        facts = FACT.findall(story)
        rest = FACT.sub("", story).strip()
        asked = re.findall(r"([^.?]+)\? ([^.?]+)\.", rest)
        assert len(asked) == len(facts) and re.sub(r"[^.?]+\? [^.?]+\.", "", rest) == ""
        answered = [(q.strip(), a) if q.strip() in PEOPLE else (a, q.strip()) for q, a in asked]
        assert sorted(answered) == sorted(facts)
        for _, things in facts:
            count, _, thing = things.split()
            assert (thing in THINGS) == (count == "a")  # the plural has an s


def test_nats_are_those_of_the_choices_by_hand() -> None:
    options = (("ab.", 0.5), ("ac.", 0.25), ("b.", 0.25))
    assert nats_of(options, "ac.") == pytest.approx((-math.log(0.75), -math.log(1 / 3), 0.0))
    for text, weight in options:
        assert sum(nats_of(options, text)) == pytest.approx(-math.log(weight))


def test_every_choice_costs_its_probability(monkeypatch) -> None:
    """The nats of a story are minus the logarithm of the product of what was drawn."""
    teller, drawn = Teller(np.random.default_rng(0), 3), []
    say = Teller.say

    def noting(self, options):
        chosen = say(self, options)
        drawn.append(options[chosen] / sum(options.values()))
        return chosen

    monkeypatch.setattr(Teller, "say", noting)
    for _ in range(20):
        teller.story()
    assert len(teller.nats) == len("".join(teller.text))
    assert sum(teller.nats) == pytest.approx(-math.log(np.prod(drawn[:9])) - sum(map(math.log, drawn[9:])))


def test_context_explains_what_frequencies_do_not(made) -> None:
    """Nats per character: all frequencies, those behind one character, and the grammar's own."""
    text, nats = made
    codes = np.frombuffer(text.encode(), np.uint8)
    single = np.bincount(codes) / len(codes)
    unigram = -np.sum(single[single > 0] * np.log(single[single > 0]))
    pairs, counts = np.unique(codes[:-1].astype(int) * 256 + codes[1:], return_counts=True)
    bigram = -np.sum(counts * np.log(counts / np.bincount(codes[:-1])[pairs // 256])) / (len(codes) - 1)
    assert unigram > 2.8 and 1.4 < bigram < 1.7 and 0.15 < nats.mean() < 0.3
    assert (nats >= 0).all() and len(nats) == len(text)


def test_the_data_module_reads_it_with_its_oracle(tmp_path: Path) -> None:
    mini = {"characters": 1000, "facts": 2}
    data = Texts(root=str(tmp_path), context=8, batch_size=2, eval_batch_size=2, mini=mini, seed=3)
    data.prepare_data()
    (folder,) = tmp_path.glob("text-mini-*[0-9a-f]")
    text, nats = (folder / TEXT).read_text(), np.load(folder / ORACLE)
    assert text_of(data.text("test")) == text[950:]
    assert data.oracle().tolist() == nats[950:].tolist()


@pytest.mark.parametrize(
    ("mini", "message"),
    [
        ({"characters": 99, "facts": 2}, "characters=99 must be at least 100"),
        ({"characters": 500, "facts": 0}, r"facts=0 must be in 1\.\.12"),
        ({"characters": 500, "facts": 13}, r"facts=13 must be in 1\.\.12"),
        ({"characters": 500, "fact": 2}, "unknown setting 'fact'. Did you mean 'facts'?"),
    ],
)
def test_settings_that_no_text_can_have_are_told(tmp_path: Path, mini: dict, message: str) -> None:
    with pytest.raises(DataError, match=message.replace("?", r"\?")):
        Texts(root=str(tmp_path), context=8, batch_size=2, eval_batch_size=2, mini=mini)
