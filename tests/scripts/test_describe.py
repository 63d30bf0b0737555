"""The command that describes a movie file: its files, its words, what is left when it is stopped."""

from pathlib import Path

import pytest

from datamodules.audio_description.cues import read_cues
from datamodules.errors import DataError
from scripts.describe import main
from tasks.audio_description.describer import AudioDescriber
from tests.small_movies import open_set, write_checkpoint, write_set

NAME = "test003"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = write_set(tmp_path_factory.mktemp("made"))
    write_checkpoint(folder / "plain.ckpt", open_set(folder, normalise="standard").facts())
    return folder


def arguments(made: Path, *more: object) -> list[str]:
    given = [
        made / f"movies/{NAME}.mp4",
        "--checkpoint",
        made / "plain.ckpt",
        "--clip",
        made / "clip",
        "--device",
        "cpu",
    ]
    return [str(word) for word in (*given, *more)]


def stopped(given: list[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        main(given)
    return str(stop.value.code)


@pytest.mark.parametrize("ending", ["vtt", "srt", "csv"])
def test_a_movie_and_its_subtitles_become_a_file_of_descriptions_in_the_gaps(made, tmp_path, capsys, ending):
    out, subtitles = tmp_path / f"out/a.{ending}", made / f"subtitles/{NAME}.srt"
    main(arguments(made, "--subtitles", subtitles, "--output", out))
    said = " ".join(capsys.readouterr().err.split())
    assert "3 windows between 4 cues of dialogue" in said and "3 descriptions in 3 windows" in said
    if ending == "csv":
        assert out.read_text().startswith("movie,start,end,text_gen,full_text,words_per_second,note\ntest003,2.060,")
        return
    found, spoken = read_cues(out).cues, read_cues(subtitles).cues
    assert len(found) == 3 and all(one.text for one in found)
    assert not any(one.start < cue.end and one.end > cue.start for one in found for cue in spoken)


def test_without_an_output_the_descriptions_are_printed_with_times(made, capsys):
    main(arguments(made, "--longest", "10", "--num-beams", "2", "--max-new-tokens", "3"))
    printed = capsys.readouterr()
    lines = printed.out.strip().splitlines()
    assert [line.split("  ")[0] for line in lines] == ["00:00:00.000 --> 00:00:10.000", "00:00:10.000 --> 00:00:20.000"]
    assert "may be spoken over dialogue" in " ".join(printed.err.split())


def test_texts_of_too_many_words_are_counted_and_shortened_if_asked(made, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(AudioDescriber, "__init__", spoken_by(AudioDescriber.__init__, "one two three, four five six"))
    rules = ("--words-per-second", "1", "--output", tmp_path / "a.vtt")
    main(arguments(made, "--longest", "4", *rules))
    assert "too long for 1.00 words per second: 5" in " ".join(capsys.readouterr().err.split())
    assert "NOTE too long at 00:00:00.000: one two three, four five six" in (tmp_path / "a.vtt").read_text()
    main(arguments(made, "--longest", "4", "--too-long", "shorten", *rules))
    assert "shortened for 1.00 words per second: 5" in " ".join(capsys.readouterr().err.split())
    assert {cue.text for cue in read_cues(tmp_path / "a.vtt").cues} == {"one two three..."}


def spoken_by(inner, *texts: str):
    """__init__ of a describer whose model says these texts in turn, the last one again and again."""

    def begin(self, *arguments, **options):
        inner(self, *arguments, **options)
        left = list(texts)
        self.module.describe = lambda batch: [left.pop(0) if len(left) > 1 else left[0] for _ in batch["text"]]

    return begin


@pytest.mark.parametrize("error", [KeyboardInterrupt(), DataError("movie.mp4: frame 99 is damaged.")])
def test_what_was_described_before_a_stop_is_kept_in_a_file_that_says_so(made, tmp_path, monkeypatch, error):
    inner = AudioDescriber.carry_out

    def two_of_them(self, plan, **options):
        found = inner(self, plan, **options)
        yield next(found)
        yield next(found)
        raise error

    monkeypatch.setattr(AudioDescriber, "carry_out", two_of_them)
    told = stopped(arguments(made, "--output", tmp_path / "a.srt"))
    assert "The 2 descriptions up to 00:00:10.000 are in" in told and "a.partial.srt" in told
    assert ("frame 99 is damaged" in told) == isinstance(error, DataError)
    assert len(read_cues(tmp_path / "a.partial.srt").cues) == 2 and not (tmp_path / "a.srt").exists()


def test_errors_are_words_before_the_work(made, tmp_path):
    assert "descriptions are written as" in stopped(arguments(made, "--output", tmp_path / "a.txt"))
    assert "0 < shortest <= longest" in stopped(arguments(made, "--shortest", "9"))
    assert "none.srt: there is no such file" in stopped(arguments(made, "--subtitles", tmp_path / "none.srt"))
    assert "none.mp4: there is no such file" in stopped(["none.mp4", *arguments(made)[1:]])
    assert "there is no such file" in stopped([*arguments(made), "--checkpoint", str(tmp_path / "none.ckpt")])
    assert "cannot be used" in stopped([*arguments(made), "--device", "cuda:99"])
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_would_be_lost_or_overwrite_an_input_is_refused_before_the_work(made, tmp_path, monkeypatch):
    monkeypatch.setattr("scripts.describe.AudioDescriber", None)  # nothing is loaded
    (tmp_path / "a.srt").write_bytes((made / f"subtitles/{NAME}.srt").read_bytes())
    for output in (tmp_path / "a.srt", tmp_path / "b/../a.srt"):
        (tmp_path / "b").mkdir(exist_ok=True)
        said = stopped(arguments(made, "--subtitles", tmp_path / "a.srt", "--output", output))
        assert "is one of the files that are read" in said
    said = stopped(arguments(made, "--output", tmp_path / "a.srt/c.vtt"))
    assert "c.vtt cannot be written" in said
    assert (tmp_path / "a.srt").read_bytes() == (made / f"subtitles/{NAME}.srt").read_bytes()
