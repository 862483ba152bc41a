"""Recorded words as log-mel features: ``hd`` and ``sc``, dense input of 40 bands every 10 ms.

A recording is brought to 16 kHz (no other change: neither loudness nor ends) and goes through
:func:`~snnlab.data.speech.mel.mel_filterbank`. A feature is the logarithm of the energy over the
floor, ``ln(max(e, eps) / eps)``, so 0 is digital silence and nothing is negative; features of the
source (Bittar & Garner 2022: Kaldi's, 40 bands) are these minus 15.9, which a normalised drive
does not see. A recording has ``data_length`` frames: a longer one is cut behind them, a shorter
one goes on in silence (zeros; the source pads its own with zeros up to the longest of a batch).

The features are computed once, into the cache: ``frames.bin`` ``(n_frames, 40) float32`` little
endian, ``offsets.npy (n + 1,)``, ``labels.npy``, ``split.npy``, ``silent.npy`` (recordings that are
digital silence) and ``manifest.json``; recording i is ``frames[offsets[i]:offsets[i + 1]]``. They
are memory-mapped, and nothing is pickled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from snnlab.data.batch import Batch, padded
from snnlab.data.build import Data, facts_of, share_note, silent_note, validation
from snnlab.data.cache import cache_errors, cache_root, cached_folder
from snnlab.data.config import DataConfig
from snnlab.data.cutting import order_of
from snnlab.data.download import say
from snnlab.data.manifest import digest, is_intact, write_manifest
from snnlab.data.resumable import ResumableLoader
from snnlab.data.sources import chosen, content_sum
from snnlab.data.speech.audio import SAMPLE_HZ, read_audio, resample
from snnlab.data.speech.corpora import Corpus, find_corpus
from snnlab.data.speech.mel import FLOOR, HOP_MS, mel_filterbank
from snnlab.data.store import TEST, VALID
from snnlab.data.stream import DenseStream
from snnlab.errors import UsageError

FORMAT = 2
BANDS = 40
_FILES = ("frames.bin", "offsets.npy", "labels.npy", "split.npy", "silent.npy")


def features(path: Path) -> np.ndarray:
    """The features of a sound file, ``(n_frames, BANDS) float32`` >= 0.

    Raises:
        UsageError: not audio, or shorter than a frame.
    """
    try:
        log = mel_filterbank(resample(*read_audio(path)), SAMPLE_HZ, BANDS)
    except UsageError as error:
        said = str(error)
        raise UsageError(said if str(path) in said else f"{path}: {said}") from None
    return log - np.float32(np.log(FLOOR))


class FeatureStore:
    """The features of a dataset, memory-mapped.

    Args:
        path: folder of the store.
        content: sum of the recordings, their labels and splits.

    Attributes:
        frames: ``(n_frames, BANDS) float32``.
        starts, ends: ``(n,) int64``, frames of each recording.
        labels, split, silent: ``(n,)``.
    """

    def __init__(self, path: Path, content: str) -> None:
        self.path, self.content = path, content
        offsets, self.labels, self.split, self.silent = (
            np.load(path / name, allow_pickle=False) for name in _FILES[1:]
        )
        self.starts, self.ends = offsets[:-1], offsets[1:]
        shape = (int(offsets[-1]), BANDS)
        self.frames: np.ndarray = np.memmap(path / _FILES[0], "<f4", mode="r", shape=shape)

    def __len__(self) -> int:
        return len(self.labels)


def feature_store(name: str, corpus: Corpus) -> FeatureStore:
    """The cached features of a corpus.

    Raises:
        UsageError: a file that is not audio (nothing is kept), or no cache folder.
    """

    def source() -> str:
        return digest(
            [content_sum(corpus.root, corpus.files), corpus.labels, corpus.split, corpus.keys]
        )

    before = source()
    facts = {"format": FORMAT, "bands": BANDS, "source": before}

    def complete(folder: Path) -> bool:
        return is_intact(folder, facts, _FILES)

    def fill(folder: Path) -> None:
        say(f"features of {len(corpus.files)} {name} recordings, made once into the cache")
        lengths, silent = [0], []
        with cache_errors(folder):
            with open(folder / _FILES[0], "wb") as sink:
                for path in corpus.files:
                    found = features(path)
                    lengths.append(len(found))
                    silent.append(not found.any())
                    sink.write(found.astype("<f4").tobytes())
            arrays: tuple[np.ndarray, ...] = (
                np.cumsum(lengths, dtype=np.int64),
                np.asarray(corpus.labels, np.int32),
                np.asarray(corpus.split, np.uint8),
                np.asarray(silent, bool),
            )
            for file, array in zip(_FILES[1:], arrays, strict=True):
                np.save(folder / file, array, allow_pickle=False)
            write_manifest(folder, facts, _FILES)
        if source() != before:
            raise UsageError("the recordings have changed while they were read; start again")

    path = cached_folder("features", name, facts, complete, fill)
    return FeatureStore(path, before[:32])


class FeatureLoader(ResumableLoader[Batch]):
    """Batches of recordings of one length; the protocol of :class:`snnlab.data.loader.Loader`.

    Args:
        store: the features.
        indices: recordings of the split.
        n_steps: T, frames of a recording.
        batch_size: B; the last batch is padded.
        seed: of the order.
        shuffle: another order in every epoch.
        drop_last: leave out a short last batch.
    """

    def __init__(
        self, store: FeatureStore, indices: np.ndarray, n_steps: int, batch_size: int, seed: int,
        shuffle: bool = False, drop_last: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.store, self.indices = store, indices
        self.n_steps, self.batch_size, self.seed = n_steps, batch_size, seed
        self.shuffle, self.drop_last = shuffle, drop_last
        self.labels = store.labels[indices]

    @property
    def n_samples(self) -> int:
        return len(self.indices)

    def __len__(self) -> int:
        n, size = self.n_samples, self.batch_size
        return n // size if self.drop_last else -(-n // size)

    def _identity(self) -> dict[str, Any]:
        return {
            "n_samples": self.n_samples, "batch_size": self.batch_size, "seed": self.seed,
            "recordings": self.store.content,
        }  # fmt: skip

    def batch(self, number: int) -> Batch:
        """Batch ``number`` of the current epoch, ``(T, B, BANDS)``, zeros behind its end."""
        n, size = self.n_samples, self.batch_size
        order = order_of(n, self.seed, self.epoch) if self.shuffle else np.arange(n)
        mine = order[number * size : (number + 1) * size]
        xs = np.zeros((self.n_steps, size, BANDS), np.float32)
        for place, i in enumerate(self.indices[mine]):
            start = self.store.starts[i]
            length = min(int(self.store.ends[i] - start), self.n_steps)
            xs[:length, place] = self.store.frames[start : start + length]
        return Batch(DenseStream(xs), *padded(mine, self.labels, size))


def build_features(name: str, config: DataConfig, seed: int) -> Data:
    """The data of a run on ``hd`` or ``sc``.

    Args:
        name: dataset.
        config: ``data_path``, ``data_length``, ``batch_size``, ``drop_last``, ``val_fraction``.
        seed: of a carved validation split and of the order; the test split does not depend on it.

    Raises:
        UsageError: recordings or cache that cannot be used, or options that do not fit them.
    """
    root = chosen(config.data_path) if config.data_path else cache_root() / "data"
    corpus = find_corpus(name, root)
    store = feature_store(name, corpus)
    n_steps, size = config.data_length, config.batch_size
    if n_steps * size * BANDS >= 1 << 31:
        raise UsageError(
            f"--batch_size {size}: {size} x {n_steps} frames x {BANDS} bands: a batch must stay "
            "below 2^31"
        )
    fit, val = validation(name, store.labels, store.split, config, seed)
    test = np.flatnonzero(store.split == TEST)
    train = FeatureLoader(store, fit, n_steps, size, seed, True, config.drop_last)
    if not len(train):
        raise UsageError(f"--drop_last: {len(fit)} training recordings fill no batch of {size}")
    counts = {
        "train": len(fit), "val": len(val), "test": len(test),
        "cut": int((store.ends - store.starts > n_steps).sum()), "absent": corpus.absent,
        "unlisted": corpus.unlisted,
    }  # fmt: skip
    for fact, text in (
        ("cut", f"longer than {n_steps} frames (--data_length), cut behind them"),
        ("absent", "named by the lists, but not there"),
        ("unlisted", "there, but named by no list and left out"),
    ):
        if counts[fact]:
            say(f"{name}: recordings {text}: {counts[fact]}")
    parts = {"train": fit, "val": val, "test": test}
    silent = {split: int(store.silent[part].sum()) for split, part in parts.items()}
    lost = {"silent_recordings": silent}
    notes = [
        silent_note(name, silent, "are digital silence"),
        share_note(config, len(val), len(fit) + len(val), bool((store.split == VALID).any())),
    ]
    return Data(
        dataset=name, n_in=BANDS, n_out=len(corpus.keys), n_steps=n_steps, bin_ms=HOP_MS,
        graded=True,
        train=train, val=FeatureLoader(store, val, n_steps, size, seed),
        test=FeatureLoader(store, test, n_steps, size, seed), counts=counts,
        class_names=corpus.keys, facts=facts_of(counts, lost, corpus.keys),
        identity={
            "recordings": f"{name} sha256 {store.content}",
            "transform": f"{BANDS} log-mel bands ({FORMAT}), {n_steps} frames of {HOP_MS:g} ms",
        },
        lost=lost, note="\n".join(filter(None, notes)),
    )  # fmt: skip
