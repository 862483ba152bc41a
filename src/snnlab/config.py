"""Strict configuration: YAML and flags into frozen dataclasses.

:mod:`snnlab.options` says what sections and options are. Names are unique over all sections,
so a flag is simply ``--name`` and a YAML file may be flat or grouped by section.

Precedence: flags over the YAML files of ``--config`` over defaults. pydantic validates
values from both sources in the same way; argparse reads the command line. This module knows
no model, no dataset and no learner: each package declares its own section.
"""

from __future__ import annotations

import argparse
import io
import math
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import pydantic
import pydantic.dataclasses

from snnlab.errors import UsageError, nearest, one_line, shown
from snnlab.options import (
    GENERAL,
    SET,
    Entry,
    Given,
    NameText,
    Over,
    PathText,
    as_dict,
    canonical,
    entries,
    flat,
    given_in_vain,
    notes,
    option,
    section,
    sections,
    show_conditions,
    void_options,
    without_void,
)
from snnlab.yaml_files import read_yaml_file, write_yaml

__all__ = [
    "SET", "NameText", "Over", "PathText", "as_dict", "build", "differences", "entries", "flat",
    "given_values", "make_parser", "notes", "option", "parse", "read_yaml", "section", "sections",
    "to_yaml", "void_options",
]  # fmt: skip

T = TypeVar("T")

# --------------------------------------------------------------------- reading


def read_yaml(path: str | Path, config_type: type) -> dict[str, Any]:
    """The options of a YAML file, flattened; grouped by section or not.

    Raises:
        UsageError: unreadable file, not a mapping, or a key that is no option.
    """
    known = entries(config_type)
    secs = sections(config_type)
    content = read_yaml_file(path)
    path = shown(path, 200)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(
            f"config {path} must be a mapping of options, not {type(content).__name__}"
        )
    values: dict[str, Any] = {}

    def take(items: Mapping[Any, Any], within: str | None) -> None:
        for key, value in items.items():
            name = canonical(str(key), known)
            if within is None and key in secs and (isinstance(value, dict) or name is None):
                if not isinstance(value, dict | None):
                    raise UsageError(f"config {path}: section '{key}' must be a mapping of options")
                take(value or {}, str(key))
                continue
            if name is None or (within is not None and known[name].section != within):
                options = [n for n, e in known.items() if within in (None, e.section)]
                where = f" in section '{within}'" if within else ""
                valid = shown(", ".join(sorted(options)), 150)
                raise UsageError(
                    f"config {path}: unknown key '{shown(key)}'{where}"
                    f"{nearest(str(key), options)}; valid keys: {valid}"
                )
            if name in values:
                raise UsageError(f"config {path}: option '{name}' is given twice")
            values[name] = value

    take(content, None)
    return values


class _Parser(argparse.ArgumentParser):
    """argparse, with one line for an error."""

    def error(self, message: str) -> typing.NoReturn:
        raise UsageError(shown(message, 200))


class _Formatter(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=100)


def _help_text(entry: Entry, default: Any) -> str:
    notes = []
    if entry.unit:
        notes.append(entry.unit)
    if entry.constraints:
        notes.append(entry.constraints)
    if entry.only:
        notes.append("only with " + show_conditions(entry.only))
    notes.append(f"default {'none' if default is None else default!s}")
    if entry.aliases:
        notes.append("also " + ", ".join(f"--{a}" for a in entry.aliases))
    return f"{entry.help} [{'; '.join(notes)}]".replace("%", "%%")


def make_parser(
    config_type: type, prog: str, description: str, defaults: Mapping[str, Any] | None = None
) -> argparse.ArgumentParser:
    """The command line of ``config_type``, grouped by section.

    The parser knows each flag in its canonical spelling; :func:`parse` respells its arguments.
    ``defaults`` are shown by ``--help`` in place of the sections' own.
    """
    parser = _Parser(
        prog=prog, description=description, formatter_class=_Formatter, allow_abbrev=False,
        usage=f"{prog} [--flag value ...]",
        epilog="In flags, '-' and '_' are the same.",
    )  # fmt: skip
    known = entries(config_type)
    shown = {name: entry.default for name, entry in known.items()} | dict(defaults or {})
    general = parser.add_argument_group("configuration")
    general.add_argument(
        "--config", action="append", default=[], metavar="YAML",
        help="options from a YAML file, below flags and above defaults; may be repeated",
    )  # fmt: skip
    general.add_argument(
        "--dry_run", action="store_true", help="print the resolved config as YAML and leave"
    )
    for sec_name, sec in sections(config_type).items():
        group = parser.add_argument_group(getattr(sec, "__section_title__", sec_name))
        for entry in known.values():
            if entry.section != sec_name:
                continue
            kwargs: dict[str, Any] = {"metavar": "X"}
            if entry.choices:
                kwargs["metavar"] = "{" + ",".join(entry.choices) + "}"
            if entry.is_flag:
                kwargs = {"metavar": "0|1", "nargs": "?", "const": "true"}
            group.add_argument(
                f"--{entry.name}", default=argparse.SUPPRESS,
                help=_help_text(entry, shown[entry.name]), **kwargs,
            )  # fmt: skip
    return parser


def _respell(argv: Sequence[str], known: Mapping[str, Entry]) -> list[str]:
    """``argv`` with flags in their canonical spelling, and negative numbers tied to theirs.

    Unknown flags stay as they are. ``--x -1e-3`` becomes ``--x=-1e-3``, which argparse would
    take for a flag.
    """
    left, out = list(argv), []
    while left:
        token = left.pop(0)
        spelling, equals, value = token.partition("=")
        if spelling.startswith("--") and len(spelling) > 2:
            plain = spelling[2:].replace("-", "_")
            name = plain if plain in GENERAL else canonical(plain, known)
            if name is not None:
                token = f"--{name}{equals}{value}"
                if not equals and left and left[0].startswith("-") and _is_number(left[0]):
                    token += f"={left.pop(0)}"
        out.append(token)
    return out


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def parse(
    config_type: type[T],
    argv: Sequence[str] | None = None,
    *,
    prog: str,
    description: str,
    defaults: Mapping[str, Any] | None = None,
    adapt: Callable[[dict[str, Any]], Mapping[str, Any]] | None = None,
    note: Callable[[str], object] | None = None,
) -> tuple[T, bool]:
    """Read the command line.

    Args:
        config_type: the experiment's config.
        argv: arguments without the program's name; ``sys.argv[1:]`` by default.
        prog: name in messages.
        description: head of ``--help``.
        defaults: this task's own defaults (below YAML and flags).
        adapt: given the values set so far, further defaults that depend on them.
        note: takes the lines that the user should see (not with ``--dry_run``).

    Returns:
        The config, and whether ``--dry_run`` was given.

    Raises:
        UsageError: an unknown flag, or a value that is not valid.
    """
    values, dry_run = given_values(
        config_type, argv, prog=prog, description=description, defaults=defaults
    )
    merged = {**(defaults or {}), **(adapt(values) if adapt else {}), **values}
    known = entries(config_type)
    continues = any(known[name].continues and value for name, value in values.items())
    made = build(config_type, merged, None if continues else values)
    if note is not None and not dry_run:
        for line in notes(made, values):
            note(line)
    return made, dry_run


def given_values(
    config_type: type,
    argv: Sequence[str] | None = None,
    *,
    prog: str,
    description: str = "",
    defaults: Mapping[str, Any] | None = None,
) -> tuple[Given, bool]:
    """The options that the command line and its YAML files set, and whether ``--dry_run`` is.

    Raises:
        UsageError: an unknown flag, or a YAML file that cannot be used.
    """
    known = entries(config_type)
    parser = make_parser(config_type, prog, description, defaults)
    space, rest = parser.parse_known_args(_respell(sys.argv[1:] if argv is None else argv, known))
    if rest:
        flag = rest[0].split("=")[0]
        if flag.startswith("--"):
            names = [n for e in known.values() for n in (e.name, *e.aliases)]
            hint = nearest(flag[2:].replace("-", "_"), [*names, *GENERAL])
            raise UsageError(f"unknown flag {shown(flag)}{hint}; --help lists all")
        raise UsageError(f"unexpected argument '{shown(rest[0])}'; options start with --")
    given = vars(space)
    values = Given()
    paths = ("config", *(name for name, entry in known.items() if entry.is_path))
    empty = [name for name in paths if given.get(name) == "" or given.get(name) == [""]]
    if empty:
        raise UsageError(f"--{empty[0]} is given, but empty (an unset variable?); leave it out")
    for path in given.pop("config"):
        found = read_yaml(path, config_type)
        values.update(found)
        values.files.update(dict.fromkeys(found, path))
    dry_run = bool(given.pop("dry_run"))
    values.update(given)
    for name in given:
        values.files.pop(name, None)
    return values, dry_run


def build(config_type: type[T], values: Mapping[str, Any], given: Given | None = None) -> T:
    """A validated config from flat option values (strings are converted).

    Args:
        config_type: the experiment's config.
        values: option -> value.
        given: those of them that the user asked for: refused where they have no effect.

    Raises:
        UsageError: an unknown option, or a value that is not valid; all of them, in one line.
    """
    known = entries(config_type)
    unknown = [k for k in values if k not in known]
    if unknown:
        raise UsageError(f"unknown option '{shown(unknown[0])}'{nearest(unknown[0], known)}")
    problems: list[str] = []
    made = {}
    for sec_name, sec in sections(config_type).items():
        own = {k: known[k].read(v) for k, v in values.items() if known[k].section == sec_name}
        wrong = [line for k, v in own.items() if (line := _unusable(known[k], v))]
        problems += wrong
        if wrong:
            continue
        try:
            made[sec_name] = sec(**own)
        except pydantic.ValidationError as error:
            problems += [_problem(item, known) for item in error.errors()]
            continue
        options = {k: getattr(made[sec_name], k) for k in known if known[k].section == sec_name}
        problems += [line for k, v in options.items() if (line := _too_large(k, v))]
    if not problems:
        problems = given_in_vain(made, known, given or Given())
    if problems:
        raise UsageError(_joined(problems))
    made = without_void(made, known)
    try:
        return config_type(**made)
    except pydantic.ValidationError as error:
        raise UsageError(_joined([_problem(e, known) for e in error.errors()])) from None


def _joined(problems: Sequence[str], most: int = 3) -> str:
    """The first problems in one line."""
    different = list(dict.fromkeys(problems))
    more = f"; and {len(different) - most} more" if len(different) > most else ""
    return "; ".join(different[:most]) + more


def _unusable(entry: Entry, value: Any) -> str:
    """What is wrong with a value before it is converted, if that is known."""
    kinds = _kinds(entry.annotation)
    if isinstance(value, bool) and bool not in kinds and kinds & {int, float}:
        return f"--{entry.name} {str(value).lower()}: must be a number, not true or false"
    if isinstance(value, str) and not value.isprintable():
        return f"--{entry.name} {shown(value)}: must be printable text of one line"
    return ""


def _kinds(annotation: Any) -> set[Any]:
    """Types that an annotation is made of."""
    parts = get_args(annotation)
    if not parts or get_origin(annotation) is Literal:
        return {annotation}
    return {kind for part in parts for kind in _kinds(part)}


def _too_large(name: str, value: Any) -> str:
    """Why a number cannot be held by the float32 and int32 of a program, if it cannot."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value:
        return ""
    if isinstance(value, int):
        if abs(value) < 2**31:
            return ""
        return f"--{name} {shown(value)}: must be a number below 2^31"
    if 2**-126 <= abs(value) < 2.0**128 or not math.isfinite(value):
        return ""
    return f"--{name} {value:g}: must be a number that float32 holds, 1.2e-38 to 3.4e38 in size"


def _problem(item: Any, known: Mapping[str, Entry]) -> str:
    message = one_line(str(item["msg"])).removeprefix("Value error, ")
    message = message.replace("Input should be", "must be")
    if not item["loc"]:
        return shown(message, 300)
    name = str(item["loc"][0])
    value = item.get("input")
    entry = known.get(name)
    if entry is not None and entry.choices and item["type"] == "literal_error":
        options = ", ".join(entry.choices)
        hint = nearest(str(value), entry.choices)
        return f"--{name} {shown(value)}: no such choice{hint}; valid: {options}"
    return f"--{name} {shown(value)}: {shown(message[:1].lower() + message[1:], 300)}"


# --------------------------------------------------------------------- writing


def to_yaml(config: Any, extra: Mapping[str, Any] | None = None) -> str:
    """The resolved config as YAML that ``--config`` reads back.

    Options without effect are left out; read back, they have their defaults.

    Args:
        config: an experiment's config.
        extra: further facts (versions, commit) written as comments at the head.
    """
    out = io.StringIO()
    for key, value in (extra or {}).items():
        out.write(f"# {key}: {one_line(str(value))}\n")
    void = void_options(config)
    used = {s: {k: v for k, v in o.items() if k not in void} for s, o in as_dict(config).items()}
    plain = pydantic.TypeAdapter(dict).dump_python(used, mode="json")
    return out.getvalue() + write_yaml(plain)


def differences(a: Any, b: Any, ignore: Sequence[str] = ()) -> list[str]:
    """``"name: x != y"`` for every option in which two configs differ."""
    fa, fb = flat(a), flat(b)
    return [
        f"{k}: {fa.get(k)} != {fb.get(k)}"
        for k in {**fa, **fb}
        if k not in ignore and fa.get(k) != fb.get(k)
    ]
