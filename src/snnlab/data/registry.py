"""The recorded datasets by name.

A user's package joins with an entry point of the group ``snnlab.datasets``, a :class:`Dataset`;
every task that takes recordings then takes its name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from snnlab.registry import Registry

if TYPE_CHECKING:
    from snnlab.data.config import DataConfig


class Dataset(NamedTuple):
    """Recorded events.

    Attributes:
        summary: for ``--help``.
        load: ``"module:function"``, which returns a :class:`~snnlab.data.store.EventStore`.
        files: whether it is read from ``--data_path``; ``load`` is then given its own name and that
            text (empty where there is none), otherwise nothing.
        own: whether ``load`` is given its own name and the whole section of options instead, as
            what ``--data_path`` holds is for the user to say.
    """

    summary: str
    load: str
    files: bool = False
    own: bool = False

    def arguments(self, name: str, config: DataConfig) -> tuple[Any, ...]:
        """What ``load`` is given."""
        return (name, config) if self.own else (name, config.data_path) if self.files else ()


_FILES = "snnlab.data.recordings:load_recordings"
DATASETS: Registry[Dataset] = Registry("dataset", "snnlab.datasets", Dataset, {
    "event-digits": Dataset(
        "handwritten digits, made offline", "snnlab.data.event_digits:load_event_digits"
    ),
    "nmnist": Dataset("N-MNIST, read or downloaded", _FILES, files=True),
    "shd": Dataset("Spiking Heidelberg Digits, read or downloaded", _FILES, files=True),
    "ssc": Dataset("Spiking Speech Commands, read or downloaded", _FILES, files=True),
    "spoken-digits": Dataset(
        "made offline, needs the extra 'speech'",
        "snnlab.data.speech.spoken_digits:load_spoken_digits",
    ),
    "gesture": Dataset(
        "DVS Gesture, read or downloaded", "snnlab.data.folders.gesture:load_gesture",
        files=True, own=True,
    ),
    "folder": Dataset(
        "recordings of your own, by class", "snnlab.data.folders.load:load_folder",
        files=True, own=True,
    ),
})  # fmt: skip
#: Recorded words as 40 log-mel features, of the task balanced-rsnn alone.
AUDIO = {
    "hd": "Heidelberg Digits as log-mel features, read",
    "sc": "Speech Commands v0.02 as log-mel features, read",
}
#: Images, of the task image-classification alone: from files, and made of scikit-learn's.
IMAGES = {
    "mnist": "handwritten digits, 28 x 28, read or downloaded",
    "fashion-mnist": "clothes, 28 x 28, read or downloaded",
    "cifar10": "photographs, 32 x 32 in colour, read or downloaded",
    "sequential-digits": "scikit-learn's digits, 8 x 8, pixel after pixel",
}
IMAGE_FILES = ("mnist", "fashion-mnist", "cifar10")
#: Those that are read from ``--data_path``.
FROM_FILES = tuple(name for name, about in DATASETS.items() if about.files)
