"""YAML files, read strictly: what may mean two things is refused, and no file costs much.

A file is UTF-8 (a byte-order mark is let pass), one document, at most ``LARGEST`` bytes. Plain
words are numbers, true, false and null as YAML 1.2 reads them, so that ``1e-3`` is a number and
``yes`` a word. Refused, with one line that says where: equal keys, tags (``!!int``), what YAML 1.1
took for another number or a date (``0777``, ``0x1f``, ``1:30``, ``1_000``, ``2020-01-31``; in
quotes it is text), numbers of more than ``DIGITS`` characters, more than ``DEEPEST`` levels, and
aliases that unfold to more than ``MOST_VALUES`` values.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from snnlab.errors import UsageError, shown

LARGEST = 1 << 20
DEEPEST, MOST_VALUES, DIGITS = 20, 50_000, 100
_AMBIGUOUS = "tag:snnlab,2024:ambiguous"
_CORE = {
    _AMBIGUOUS: (
        r"[-+]?0[0-9_]+|[-+]?0[box][0-9a-fA-F_]+|[-+]?[0-9][0-9_]*_[0-9_]*(?:\.[0-9_]*)?"
        r"|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?"
        r"|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt ].*)?",
        "-+0123456789",
    ),
    "tag:yaml.org,2002:int": (r"[-+]?[0-9]+", "-+0123456789"),
    "tag:yaml.org,2002:float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    "tag:yaml.org,2002:bool": ("true|True|TRUE|false|False|FALSE", "tTfF"),
    "tag:yaml.org,2002:null": ("~|null|Null|NULL|", ["~", "n", "N", ""]),
}


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the rules of this module."""

    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012 (PyYAML's own name and type)

    def __init__(self, text: str, most: int) -> None:
        super().__init__(text)
        self._depth = self._values = 0
        self._most = most

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if getattr(event, "tag", None) is not None:
            raise _fault(f"the tag {shown(event.tag, 30)} is not read", event)
        self._depth += 1
        self._values += 1
        if self._depth > DEEPEST:
            raise _fault(f"more than {DEEPEST} levels, one inside the other", event)
        if self._values > self._most:
            raise _fault(f"more than {self._most:,} values", event)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        if node is not None:
            self._unfolded(node, {}, 0)
        return node

    def _unfolded(self, node: Any, known: dict[int, int], depth: int) -> int:
        """Values of a node with its aliases written out."""
        if id(node) in known:
            return known[id(node)]
        if depth > DEEPEST:
            raise _fault(f"aliases of more than {DEEPEST} levels", node)
        parts = node.value if isinstance(node, yaml.CollectionNode) else ()
        pairs = isinstance(node, yaml.MappingNode)
        inner = [n for part in parts for n in (part if pairs else (part,))]
        total = 1 + sum(self._unfolded(n, known, depth + 1) for n in inner)
        if total > self._most:
            raise _fault(f"aliases that unfold to more than {self._most:,} values", node)
        known[id(node)] = total
        return total

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        made: dict[Hashable, Any] = {}
        taken = set()
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _fault("a key must be a word", key_node)
            key = self.construct_object(key_node)
            if str(key) in taken:
                raise _fault(f"'{shown(key)}' is given twice", key_node)
            taken.add(str(key))
            made[key] = self.construct_object(value_node, deep=deep)
        return made

    def _number(self, node: Any, kind: type) -> Any:
        if len(node.value) > DIGITS:
            raise _fault(f"a number of {len(node.value):,} characters", node)
        return kind(node.value.replace(".inf", "inf").replace(".nan", "nan"))

    def construct_yaml_int(self, node: Any) -> int:
        return self._number(node, int)

    def construct_yaml_float(self, node: Any) -> float:
        node.value = node.value.lower()
        return self._number(node, float)

    def construct_ambiguous(self, node: Any) -> Any:
        text = shown(node.value, 40)
        raise _fault(
            f"{text} may mean two things: write a decimal number, or put it in quotes", node
        )


for _tag, (_pattern, _first) in _CORE.items():
    _Loader.add_implicit_resolver(_tag, re.compile(f"(?:{_pattern})\\Z"), list(_first))
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)
_Loader.add_constructor(_AMBIGUOUS, _Loader.construct_ambiguous)


class _Dumper(yaml.SafeDumper):
    """Quotes text that either YAML would take for something else; writes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _tag, (_pattern, _first) in _CORE.items():
    _Dumper.add_implicit_resolver(_tag, re.compile(f"(?:{_pattern})\\Z"), list(_first))


def _fault(problem: str, at: Any) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, at.start_mark)


def parse_yaml(text: str, name: str, most: int = MOST_VALUES) -> Any:
    """What a text says, in plain Python types; ``None`` if it is empty.

    Args:
        text: YAML.
        name: for messages, such as ``config a.yaml``.
        most: values that it may hold.

    Raises:
        UsageError: it is not YAML, or is refused by the rules of this module.
    """
    try:
        loader = _Loader(text, most)
        return loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}" if mark else ""
        what = shown(error.problem or error.context or "it cannot be read", 150)
        raise UsageError(f"{name} is not valid YAML{where}: {what}") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # of PyYAML's reader and escapes
        raise UsageError(f"{name} is not valid YAML: {shown(error, 150)}") from None


def read_yaml_file(path: str | Path, kind: str = "config", times: int = 1) -> Any:
    """What a file says; see :func:`parse_yaml`.

    Args:
        path: file.
        kind: what it is, for messages.
        times: how many times larger than a file by hand it may be.

    Raises:
        UsageError: it cannot be read, is no plain file or too large, or is not valid.
    """
    name = f"{kind} {shown(path, 200)}"
    try:
        with open(_plain_file(Path(path), name), "rb") as file:
            content = file.read(times * LARGEST + 1)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise UsageError(f"cannot read {name}: {_reason(error)}") from None
    if len(content) > times * LARGEST:
        raise UsageError(f"{name} is larger than {times * LARGEST // 1024:,} KiB")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{name} is not valid YAML: byte {error.start:,} is not UTF-8 text"
        ) from None
    return parse_yaml(text, name, times * MOST_VALUES)


def _plain_file(path: Path, name: str) -> Path:
    """``path``, if reading it ends: no FIFO, no device."""
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise UsageError(f"cannot read {name}: it is no plain file")
    return path


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def write_yaml(content: Any) -> str:
    """YAML that :func:`parse_yaml` reads back as the same, keys in their order."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, default_flow_style=False)
