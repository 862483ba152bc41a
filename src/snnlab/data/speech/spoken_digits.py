"""``spoken-digits``: twenty synthesised words (zero..nine, null..neun) as cochlea spikes, offline.

eSpeak NG (:mod:`~snnlab.data.speech.espeak`) says every word in 16 + 5 voices and three pairs of
rate and pitch; :mod:`~snnlab.data.speech.cochlea` hears it. The files are made once into the
cache, in SHD's layout. The voices of the test set are not in the training set, so the test asks
for speakers never heard, as SHD's does. What it has not: breath, rooms, and people.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from snnlab.data.cache import cache_errors, cached_folder
from snnlab.data.manifest import is_intact, write_manifest
from snnlab.data.recordings import shd_store
from snnlab.data.speech.cochlea import Cochlea
from snnlab.data.speech.convert import Tally, encode
from snnlab.data.speech.espeak import Utterance, speak
from snnlab.data.speech.folder import ENGLISH, GERMAN
from snnlab.data.speech.format import write_shd
from snnlab.data.store import EventStore

VERSION = 1
KEYS = ENGLISH + GERMAN
_SPELLING = {"fuenf": "fünf"}
_FILES = {"Train": "shd_train.h5", "Test": "shd_test.h5"}


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Who says the words, and how.

    Attributes:
        train, test: variants of eSpeak's voices, each a speaker of both languages.
        accents: of English; the speakers take turns.
        prosody: pairs of rate (words per minute) and pitch (0 to 100), 50 the voice's own.
    """

    train: tuple[str, ...] = (
        "m1", "m2", "m3", "m5", "m7", "f1", "f2", "f3", "f5", "Andy", "Annie", "belinda", "klatt",
        "linda", "max", "zac",
    )  # fmt: skip
    test: tuple[str, ...] = ("m4", "f4", "Alicia", "john", "klatt2")
    accents: tuple[str, ...] = ("en", "en-us", "en-gb-x-rp", "en-gb-scotland")
    prosody: tuple[tuple[int, int], ...] = ((100, 40), (140, 65), (200, 50))

    @property
    def voices(self) -> tuple[str, ...]:
        """Of both sets; a speaker's number is the place here."""
        return self.train + self.test

    def utterances(self, voice: str) -> list[tuple[int, Utterance]]:
        """What a voice says, with labels, in the order in which it is synthesised."""
        accent = self.accents[self.voices.index(voice) % len(self.accents)]
        return [
            (label, Utterance(
                _SPELLING.get(word, word), f"{accent if word in ENGLISH else 'de'}+{voice}",
                rate, pitch,
            ))
            for rate, pitch in self.prosody
            for label, word in enumerate(KEYS)
        ]  # fmt: skip


class Sound(NamedTuple):
    """A synthesised word.

    Attributes:
        label: index into ``KEYS``.
        speaker: index into ``Corpus.voices``.
        voice: its name.
        samples: ``(n,) float32`` in [-1, 1).
        rate: samples per second.
    """

    label: int
    speaker: int
    voice: str
    samples: np.ndarray
    rate: int

    def audio(self) -> tuple[np.ndarray, int]:
        return self.samples, self.rate


def spoken_words(voices: tuple[str, ...] = (), corpus: Corpus | None = None) -> Iterator[Sound]:
    """The audio of the dataset, voice by voice; a voice sounds the same whatever else is asked for.

    Args:
        voices: some of ``corpus.voices``; all by default.
        corpus: who says it, and how.

    Raises:
        UsageError: the synthesiser is missing or refuses.
    """
    corpus = corpus or Corpus()
    for voice in voices or corpus.voices:
        said = corpus.utterances(voice)
        sounds, rate = speak([utterance for _, utterance in said])
        for (label, _), raw in zip(said, sounds, strict=True):
            samples = np.frombuffer(raw, "<i2").astype(np.float32) / 32768
            yield Sound(label, corpus.voices.index(voice), voice, samples, rate)


def load_spoken_digits(corpus: Corpus | None = None, cochlea: Cochlea | None = None) -> EventStore:
    """The cached dataset: 960 training and 300 test recordings of other voices.

    Raises:
        UsageError: the synthesiser is missing, or the cache folder cannot be written.
    """
    return shd_store(spoken_digits_files(corpus, cochlea), "spoken-digits")


def spoken_digits_files(
    corpus: Corpus | None = None, cochlea: Cochlea | None = None
) -> dict[str, Path]:
    """``Train`` and ``Test`` files of the dataset in SHD's layout, made unless they are there."""
    corpus, cochlea = corpus or Corpus(), cochlea or Cochlea()
    names = list(_FILES.values())
    facts = {
        "version": VERSION,
        "corpus": dataclasses.asdict(corpus),
        "cochlea": dataclasses.asdict(cochlea),
    }

    def fill(folder: Path) -> None:
        for split, voices in (("Train", corpus.train), ("Test", corpus.test)):
            _write(folder / _FILES[split], voices, corpus, cochlea)
        with cache_errors(folder):
            write_manifest(folder, facts, names)

    def complete(folder: Path) -> bool:
        return is_intact(folder, facts, names)

    folder = cached_folder("speech", "spoken-digits", facts, complete, fill)
    return {split: folder / name for split, name in _FILES.items()}


def _write(path: Path, voices: tuple[str, ...], corpus: Corpus, cochlea: Cochlea) -> None:
    sounds = list(spoken_words(voices, corpus))
    lengths = [len(s.samples) / s.rate for s in sounds]
    print(
        f"snnlab: spoken-digits: {len(sounds)} words of {len(voices)} voices, made once into the "
        f"cache ({sum(lengths) / 600 + 0.5:.0f} min or so)",
        file=sys.stderr,
        flush=True,
    )
    tally = Tally()
    items = encode([s.audio for s in sounds], lengths, cochlea, tally)
    write_shd(
        path, items, [s.label for s in sounds], [s.speaker for s in sounds], KEYS, corpus.voices
    )
    print(f"snnlab: spoken-digits: {tally}", file=sys.stderr, flush=True)
