"""The synthesised dataset in small: voices kept apart, repeatable, made once, refused clearly."""

from __future__ import annotations

import importlib.util
import sys

import h5py
import numpy as np
import pytest

from snnlab.data import load_spoken_digits
from snnlab.data.speech import spoken_digits
from snnlab.data.speech.espeak import Utterance, speak
from snnlab.data.speech.spoken_digits import KEYS, Corpus, spoken_digits_files, spoken_words
from snnlab.errors import UsageError

SMALL = Corpus(train=("m1", "f2"), test=("klatt2",), prosody=((165, 50),))
synthesiser = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None,
    reason="speech synthesis needs espeakng-loader: pip install -e '.[speech]'",
)


def test_test_voices_are_held_out_of_training():
    corpus = Corpus()
    assert (len(corpus.train), len(corpus.test)) == (16, 5)
    assert not set(corpus.train) & set(corpus.test)
    assert len(set(corpus.voices)) == len(corpus.voices)


def test_what_a_voice_says():
    said = Corpus().utterances("m2")
    assert [label for label, _ in said] == list(range(20)) * 3
    assert said[15][1] == Utterance("fünf", "de+m2", 100, 40)
    assert said[7][1] == Utterance("seven", "en-us+m2", 100, 40)


def test_missing_synthesiser_is_one_line(own_cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    needed = r"espeakng-loader, of the extra 'speech' \(pip install -e '\.\[speech\]'\)"
    with pytest.raises(UsageError, match=needed) as caught:
        load_spoken_digits()
    assert "\n" not in str(caught.value)
    assert not [p for p in own_cache.rglob("*") if p.is_file()]


@synthesiser
def test_speech_is_repeatable_and_depends_on_all_it_should():
    one = Utterance("seven", "en+m1")
    spoken = [one, one._replace(rate=300), one._replace(pitch=90), one._replace(voice="de+f2")]
    (a, fast, high, other), hz = speak(spoken)
    assert hz == 22050
    assert 0.2 * hz < len(a) // 2 < hz
    assert len(fast) < 0.8 * len(a)
    assert len({a, fast, high, other}) == 4
    assert speak(spoken)[0] == [a, fast, high, other]


@synthesiser
def test_refusals_of_the_library():
    for voice in ("en+nobody", "xx"):
        with pytest.raises(UsageError, match="eSpeak NG failed"):
            speak([Utterance("one", voice)])


@synthesiser
def test_audio_of_a_voice_does_not_depend_on_the_others():
    (a, *_), (b, *_) = (list(spoken_words(v, SMALL)) for v in (("f2",), ("m1", "f2")))
    again = next(s for s in spoken_words(("m1", "f2"), SMALL) if s.voice == "f2")
    assert np.array_equal(a.samples, again.samples)
    assert (a.label, a.speaker, a.voice, a.rate) == (0, 1, "f2", 22050)
    assert b.voice == "m1"
    assert 0.05 < np.abs(a.samples).max() <= 1


@synthesiser
def test_dataset(own_cache, monkeypatch, capsys):
    store = load_spoken_digits(SMALL)
    assert "60" not in capsys.readouterr().out
    assert store.sensor.name == "spoken-digits"
    assert (store.sensor.n_classes, store.sensor.width) == (20, 700)
    assert np.bincount(store.split).tolist() == [40, 20]
    assert np.bincount(store.labels).tolist() == [3] * 20
    counts = store.ends - store.starts
    assert 2_000 < counts.mean() < 15_000
    assert counts.min() > 500
    channels = np.bincount(store.decode(np.asarray(store.events))[1], minlength=700)
    assert (channels > 0).sum() > 650
    files = spoken_digits_files(SMALL)
    with h5py.File(files["Train"]) as train, h5py.File(files["Test"]) as test:
        assert [k.decode() for k in train["extra/keys"]] == list(KEYS)
        assert not set(train["extra/speaker"]) & set(test["extra/speaker"])
        assert [n.decode() for n in test["extra/meta_info/name"]][
            test["extra/speaker"][0]
        ] == "klatt2"
    monkeypatch.setattr(spoken_digits, "_write", lambda *_: pytest.fail("made twice"))
    assert load_spoken_digits(SMALL).path == store.path
    assert not list((own_cache / "speech").glob(".*")), "no half-written folder is left"
