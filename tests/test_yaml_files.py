"""YAML is read strictly, in one way everywhere: what may mean two things is one short line."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from snnlab.errors import UsageError
from snnlab.yaml_files import LARGEST, MOST_VALUES, parse_yaml, read_yaml_file, write_yaml


def fault(text: str) -> str:
    with pytest.raises(UsageError) as error:
        parse_yaml(text, "config c.yaml")
    message = str(error.value)
    assert "\n" not in message
    assert len(message) <= 300
    return message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3), ("1.", 1.0), (".5", 0.5), ("-2.5E+1", -25.0), ("+5", 5), ("-3", -3),
        ("0", 0), ("yes", "yes"), ("off", "off"), ("true", True), ("FALSE", False), ("~", None),
        ("", None), ("'0777'", "0777"), ('"1:30"', "1:30"), ("[1, a]", [1, "a"]),
        ("1e-3x", "1e-3x"), (".inf", float("inf")),
    ],
)  # fmt: skip
def test_words_mean_what_yaml_1_2_says(text: str, value: Any) -> None:
    found = parse_yaml(f"a: {text}", "t")["a"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lr: 1\nlr: 2", "line 2: 'lr' is given twice"),
        ("a: {b: 1, b: 1}", "'b' is given twice"),
        ("1: a\n'1': b", "'1' is given twice"),
        ("a: 0777", "0777 may mean two things"),
        ("a: 1:30", "1:30 may mean two things"),
        ("a: 0x1f", "0x1f may mean"),
        ("a: 0b1", "0b1 may mean"),
        ("a: 1_000", "1_000 may mean"),
        ("a: 2020-13-45", "2020-13-45 may mean"),
        ("a: 2020-01-01 10:00:00", "may mean"),
        ("a: !!int abc", "tag"),
        ("a: !!python/object:os.system x", "tag"),
        ("a: ! 3", "tag"),
        ("a: " + "9" * 5000, "a number of 5,000 characters"),
        ("a: 0x" + "f" * 50_000, "may mean"),
        ("a: " + "[" * 100_000, "more than 20 levels"),
        ("a: &x [*x]", "aliases"),
        ("[a]: 1", "a key must be a word"),
        ("? {a: 1}\n: 2", "a key must be a word"),
        ("a: 1\n---\nb: 2", "another document"),
        ("a: [1", "not valid YAML"),
        ('"\\UFFFFFFFF": 1', "not valid YAML"),
        ("a: \x01", "not valid YAML"),
        ("a: *nothing", "undefined alias"),
    ],
)
def test_what_is_refused(text: str, words: str) -> None:
    assert words in fault(text)


def test_aliases_are_counted_as_if_they_were_written_out() -> None:
    assert parse_yaml("a: &x [1, 2]\nb: *x", "t") == {"a": [1, 2], "b": [1, 2]}
    chain = [f"{b}: &{b} [{', '.join(['*' + a] * 9)}]" for a, b in zip("abcdef", "bcdefg")]
    text = "\n".join(["a: &a [x,x,x,x,x,x,x,x,x]", *chain])
    assert len(text) < 300
    began = time.perf_counter()
    assert f"more than {MOST_VALUES:,} values" in fault(text)
    assert time.perf_counter() - began < 1.0


def test_files_that_are_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"# " + b"x" * LARGEST)
    (tmp_path / "latin").write_bytes(b"a: \xe9")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name, words in (
        ("pipe", "no plain file"), ("large", "larger than 1,024 KiB"), ("latin", "not UTF-8"),
        ("loop", "cannot read"), ("none", "No such file"), ("", "Is a directory"), ("\0", "cannot"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=words):
            read_yaml_file(f"{tmp_path}/{name}")
    with pytest.raises(UsageError, match="no plain file"):
        read_yaml_file("/dev/zero")


def test_a_byte_order_mark_is_let_pass(tmp_path: Path) -> None:
    (tmp_path / "bom.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_yaml_file(tmp_path / "bom.yaml") == {"a": 1}


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(PLAIN)
@example({"a": "0777", "b": "1e-3", "c": "yes", "d": "1:30", "e": "2020-01-01", "f": "null"})
@example({"a": "", "b": "~", "c": "0x1f", "d": "1_0", "e": "\udc80", "f": "<<", "g": ".nan"})
def test_what_is_written_reads_back(content: Any) -> None:
    assert parse_yaml(write_yaml(content), "t") == content
