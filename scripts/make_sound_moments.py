"""Makes moments in long recordings of real sounds: ESC-10's clips in noise, and queries such as "the rooster crows".

    python -m scripts.make_sound_moments path/to/esc10 data/sound_moments
    python -m scripts.make_sound_moments path/to/esc10 data/quiet --snr 10 20 --recordings 200 20 50
    python train.py experiment=qvhighlights_baseline data=sound_moments scale=mini

A recording lasts 30 to 60 s: coloured noise, or another clip's steady sound, in which clips of a few kinds sound at
whole seconds. A query names one kind; its moments are all places where it sounds. The files are those of QVHighlights
(docs/datasets.md#sound-moments). No recording of ESC-10 is heard in two splits. The same arguments give the same bytes.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datamodules.audio_description.mini.sounds import BANDS, FRAME, RATE, log_mel
from datamodules.errors import DataError
from datamodules.esc10 import SOUNDS, read_sound, sound_files
from datamodules.moment_retrieval.mini.generator import ANNOTATIONS, QUERIES, TEXT, merged, write_stream
from datamodules.moment_retrieval.mini.queries import Words
from scripts.arguments import parser_for

STREAM = "clip_features"
STEADY = ("fire_crackling", "helicopter", "rain", "sea_waves")  # sounds that a whole recording can have behind it
CLAUSES = {
    "baby_cry": ("a baby cries", "the baby is crying", "an infant screams"),
    "chainsaw": ("a chainsaw runs", "somebody cuts wood with a chainsaw", "the chainsaw is working"),
    "clock_tick": ("a clock ticks", "the clock is ticking", "an old clock can be heard"),
    "dog_bark": ("a dog barks", "the dog is barking", "some dog can be heard"),
    "fire_crackling": ("a fire crackles", "the fire is burning", "wood burns and crackles"),
    "helicopter": ("a helicopter flies by", "the helicopter is in the air", "a helicopter can be heard"),
    "person_sneeze": ("a person sneezes", "somebody has to sneeze", "someone is sneezing"),
    "rain": ("rain falls", "it is raining", "the rain can be heard"),
    "rooster": ("the rooster crows", "a rooster is crowing", "a rooster can be heard"),
    "sea_waves": ("waves break at the sea", "the sea can be heard", "waves roll to the beach"),
}
BEGINNINGS = ("{}", "when {}", "find every part in which {}", "listen for the moment when {}")
FADE = RATE // 10  # samples over which a looped clip is faded into itself
SILENCE = 0.02  # of a clip's peak: what is below it at both ends is cut off
TEXT_NOISE = 0.15
RATERS, TOP_SCORE = 3, 4
SCORED = (-5.0, 15.0)  # dB above the background in a clip of one second that score 0 and 4
TINY = 1e-9


@dataclass(frozen=True)
class Event:
    kind: str
    first: int  # clip of one second
    end: int  # the clip behind it


@dataclass
class Recording:
    name: str
    features: np.ndarray  # (clips, 4 * BANDS) float32
    events: list[Event]
    above: np.ndarray  # (clips,) dB of the events above the background

    def __len__(self) -> int:
        return len(self.features)


def trimmed(wave: np.ndarray) -> np.ndarray:
    """Without the silence at both ends, which ESC-10 fills short sounds up with; RMS 1.

    What is left of a last second that has hardly begun is cut off, too.
    """
    loud = np.flatnonzero(np.abs(wave) > SILENCE * np.abs(wave).max())
    wave = wave[loud[0] : loud[-1] + 1]
    wave = wave[: seconds(max(1, len(wave) - RATE // 10)) * RATE]
    return wave / np.sqrt(np.mean(np.square(wave, dtype=np.float64))).astype(np.float32)


def seconds(samples: int) -> int:
    """Whole seconds that hold so many samples."""
    return -(-samples // RATE)


def looped(wave: np.ndarray, samples: int) -> np.ndarray:
    """A clip again and again, each end faded into the next beginning, (samples,)."""
    fade = min(FADE, len(wave) // 3)
    ramp = np.linspace(0, 1, fade, dtype=np.float32)
    wave = np.concatenate([wave[:fade] * ramp, wave[fade : len(wave) - fade], wave[len(wave) - fade :] * ramp[::-1]])
    out = np.zeros(samples + 2 * len(wave), np.float32)
    for first in range(0, samples + fade, len(wave) - fade):
        out[first : first + len(wave)] += wave
    return out[fade : fade + samples]


def coloured_noise(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Noise whose power falls with frequency as 1 / f^a, a drawn from 0 (white) to 2 (brown); RMS 1."""
    spectrum = np.fft.rfft(rng.standard_normal(samples, dtype=np.float32))
    hertz = np.maximum(np.fft.rfftfreq(samples, 1 / RATE), 20.0)
    wave = np.fft.irfft(spectrum * hertz ** (-rng.uniform(0, 2) / 2), samples)
    return (wave / wave.std()).astype(np.float32)


def layout(lengths: Sequence[int], clips: int, rng: np.random.Generator) -> list[int]:
    """First clips of events in order, at random, with at least one clip between two of them."""
    free = clips - sum(lengths) - (len(lengths) - 1)
    gaps = rng.multinomial(free, np.full(len(lengths) + 1, 1 / (len(lengths) + 1)))
    between = np.asarray([0, *np.asarray(lengths[:-1]) + 1])
    return (np.cumsum(gaps[:-1]) + np.cumsum(between)).tolist()


def clip_features(wave: np.ndarray) -> np.ndarray:
    """(clips, 4 * BANDS): over each second, mean, deviation, maximum and mean change of the log-mel bands."""
    bands = log_mel(wave).reshape(-1, RATE // FRAME, BANDS)  # (clips, 20, 16)
    change = np.abs(np.diff(bands, axis=1)).mean(1)
    return np.concatenate([bands.mean(1), bands.std(1), bands.max(1), change], axis=1)


def make_recording(number: int, sounds: dict[str, list[np.ndarray]], given, rng: np.random.Generator) -> Recording:
    """One recording. sounds: the split's clips by class, trimmed. given: the command's options."""
    clips = int(rng.integers(given.seconds[0], given.seconds[1] + 1))
    kinds = [str(kind) for kind in rng.permutation(list(SOUNDS))]
    if rng.random() < given.steady:
        behind = str(rng.choice(STEADY))
        kinds.remove(behind)
        wave = sounds[behind][rng.integers(len(sounds[behind]))]
        background = looped(wave, clips * RATE)
    else:
        background = coloured_noise(clips * RATE, rng)
    cast = kinds[: given.kinds]
    events: list[tuple[str, np.ndarray]] = []
    taken = 0
    for place in range(int(rng.integers(given.kinds, 2 * given.kinds + 1))):
        kind = cast[place] if place < len(cast) else str(rng.choice(cast))  # each of the cast sounds once at least
        wave = sounds[kind][rng.integers(len(sounds[kind]))]
        taken += seconds(len(wave)) + 1
        if taken > clips * 2 // 3 and len(events) > 1:
            break
        events.append((kind, wave))
    events = [events[i] for i in rng.permutation(len(events))]
    lengths = [seconds(len(wave)) for _, wave in events]
    mixed, placed = np.zeros_like(background), []
    for (kind, wave), first, length in zip(events, layout(lengths, clips, rng), lengths, strict=True):
        late = int(rng.integers(length * RATE - len(wave) + 1))
        loudness = np.float32(10 ** (rng.uniform(*given.snr) / 20))
        mixed[first * RATE + late : first * RATE + late + len(wave)] += loudness * wave
        placed.append(Event(kind, first, first + length))
    power = [np.square(part.reshape(clips, RATE)).mean(1) + TINY for part in (mixed, background)]
    above = 10 * np.log10(power[0] / power[1])
    return Recording(f"sound{number:05d}_0.0_{clips:.1f}", clip_features(background + mixed), placed, above)


def scores(above: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Three raters' scores of every clip, (clips, 3), whole, 0..4: how clearly it is heard, as each finds it."""
    heard = (TOP_SCORE + 0.5) * (above - SCORED[0]) / (SCORED[1] - SCORED[0])
    return np.clip(np.rint(heard[:, None] + 0.5 * rng.standard_normal((len(above), RATERS))), 0, TOP_SCORE).astype(int)


def ask(
    recording: Recording, first_qid: int, words: Words, given, rng: np.random.Generator
) -> list[tuple[dict, np.ndarray]]:
    """(annotation, features of the words) of queries about different kinds of sounds of a recording."""
    kinds = sorted({event.kind for event in recording.events})
    asked = []
    for kind in [kinds[i] for i in rng.permutation(len(kinds))][: given.queries]:
        spans = np.array(sorted((one.first, one.end) for one in recording.events if one.kind == kind))
        windows = merged(spans, list(range(len(spans))))
        clips = [clip for first, end in windows for clip in range(first, end)]
        sentence = str(rng.choice(BEGINNINGS)).format(rng.choice(CLAUSES[kind]))
        row = {
            "qid": first_qid + len(asked),
            "query": sentence,
            "duration": float(len(recording)),
            "vid": recording.name,
            "relevant_clip_ids": clips,
            "saliency_scores": scores(recording.above, rng)[clips].tolist(),
            "relevant_windows": [[float(first), float(end)] for first, end in windows],
        }
        asked.append((row, words.features(sentence.split(), TEXT_NOISE, rng)))
    return asked


def build(folder: Path, given: argparse.Namespace) -> str:
    """Writes everything into `folder`; returns what there is, in words. Raises DataError."""
    files, words = sound_files(given.esc10, given.seed), Words(TEXT, given.seed)
    streams: dict[str, dict] = {STREAM: {}, QUERIES: {}}
    number, told = 0, []
    for split, count in zip(ANNOTATIONS, given.recordings, strict=True):
        sounds = {name: [trimmed(read_sound(path, RATE)) for path in paths] for name, paths in files[split].items()}
        lines = []
        for _ in range(count):
            number += 1
            rng = np.random.default_rng([given.seed, number])
            recording = make_recording(number, sounds, given, rng)
            streams[STREAM][recording.name] = recording.features
            for row, features in ask(recording, 1 + number * given.queries, words, given, rng):
                lines.append(json.dumps(row) + "\n")
                streams[QUERIES][f"qid{row['qid']}"] = {"last_hidden_state": features}
        (folder / ANNOTATIONS[split]).write_text("".join(lines), encoding="utf-8")
        if split == "train":  # everything is put on the scale of the training recordings
            every = np.concatenate(list(streams[STREAM].values()))
            mean, std = every.mean(0), every.std(0) + 1e-3
        told.append(f"{split} {count} recordings with {len(lines)} queries")
    scaled = {name: ((rows - mean) / std).astype(np.float32) for name, rows in streams[STREAM].items()}
    write_stream(folder / STREAM, {name: {"features": rows} for name, rows in scaled.items()})
    write_stream(folder / QUERIES, streams[QUERIES])
    options = {key: value for key, value in vars(given).items() if key not in ("esc10", "out")}
    clips = {split: sorted(p.name for paths in by_class.values() for p in paths) for split, by_class in files.items()}
    (folder / "meta.json").write_text(json.dumps({"options": options, "clips": clips}, indent=1) + "\n")
    return "; ".join(told)


def options(arguments: list[str] | None) -> argparse.Namespace:
    parser = parser_for("make_sound_moments", __doc__)
    parser.add_argument("esc10", type=Path, help="folder of ESC-10, with a folder for each class")
    parser.add_argument("out", type=Path, help="folder that is made")
    parser.add_argument("--recordings", type=int, nargs=3, default=[1000, 50, 150], metavar=("TRAIN", "VAL", "TEST"))
    parser.add_argument("--seconds", type=int, nargs=2, default=[30, 60], metavar=("LEAST", "MOST"), help="30 60")
    parser.add_argument("--snr", type=float, nargs=2, default=[0.0, 12.0], metavar=("LEAST", "MOST"), help="dB: 0 12")
    parser.add_argument("--kinds", type=int, default=3, help="different sounds in a recording (3)")
    parser.add_argument("--queries", type=int, default=2, help="queries per recording, at most (2)")
    parser.add_argument("--steady", type=float, default=0.5, help="share with a clip's steady sound behind (0.5)")
    parser.add_argument("--seed", type=int, default=1, help="what the recordings contain (1)")
    given = parser.parse_args(arguments)
    if min(given.recordings) < 1 or given.queries < 1 or given.seed < 0:
        parser.error("--recordings and --queries must be at least 1, --seed at least 0")
    if not 20 <= given.seconds[0] <= given.seconds[1]:
        parser.error(f"--seconds {given.seconds[0]} {given.seconds[1]}: must be at least 20, the smaller one first")
    if not 1 <= given.kinds <= len(SOUNDS) - 1:
        parser.error(f"--kinds {given.kinds}: must be 1 to {len(SOUNDS) - 1}")
    if not given.snr[0] <= given.snr[1] or not 0 <= given.steady <= 1:
        parser.error("--snr: the smaller one first; --steady is a share, 0 to 1")
    return given


def main(arguments: list[str] | None = None) -> None:
    given = options(arguments)
    draft = given.out.with_name(given.out.name + ".partial")
    if given.out.exists():
        sys.exit(f"{given.out} is there already; name another folder, or remove it.")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        told = build(draft, given)
        draft.rename(given.out)
    except (DataError, OSError) as error:
        sys.exit(str(error))
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    print(f"{given.out}: {told}")


if __name__ == "__main__":
    main()
