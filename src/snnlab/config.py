"""Strict configuration: YAML and flags into frozen dataclasses.

A *section* is a frozen dataclass whose fields are made by :func:`option`; an experiment's
config is a frozen dataclass whose fields are sections. Names are unique over all sections,
so a flag is simply ``--name`` and a YAML file may be flat or grouped by section.

Precedence: flags over the YAML files of ``--config`` over defaults. pydantic validates
values from both sources in the same way; argparse reads the command line. This module knows
no model, no dataset and no learner: each package declares its own section.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, dataclass_transform, get_args, get_origin

import pydantic
import pydantic.dataclasses
import yaml

from snnlab.errors import UsageError, nearest, one_line

T = TypeVar("T")


def option(
    default: Any,
    help: str,
    *,
    unit: str = "",
    aliases: Sequence[str] = (),
    **constraints: Any,
) -> Any:
    """A field of a section.

    Args:
        default: value without flag or YAML.
        help: one sentence, shown by ``--help``.
        unit: physical unit of the value, shown by ``--help`` (for example ``"ms"``).
        aliases: other accepted flag and YAML names.
        **constraints: pydantic's ``gt, ge, lt, le, pattern ...``.
    """
    return pydantic.Field(
        default=default,
        description=help,
        json_schema_extra={"unit": unit, "aliases": list(aliases)},
        **constraints,
    )


@dataclass_transform(field_specifiers=(option,), frozen_default=True)
def section(title: str) -> Callable[[type[T]], type[T]]:
    """Class decorator: a frozen, strictly keyed and validated section with a help title."""

    def wrap(cls: type[T]) -> type[T]:
        made = pydantic.dataclasses.dataclass(
            frozen=True, config=pydantic.ConfigDict(extra="forbid", validate_default=True)
        )(cls)
        made.__section_title__ = title  # type: ignore[attr-defined]
        return made  # type: ignore[return-value]

    return wrap


@dataclasses.dataclass(frozen=True)
class _Entry:
    """One option: where it lives and how it is shown."""

    name: str
    section: str
    annotation: Any
    default: Any
    help: str
    unit: str
    aliases: tuple[str, ...]
    constraints: str

    @property
    def is_flag(self) -> bool:
        return self.annotation is bool

    @property
    def choices(self) -> tuple[str, ...]:
        return tuple(str(v) for v in _literals(self.annotation))

    def read(self, value: Any) -> Any:
        """``value`` with the spellings that only a flag has ("none", a number as text) read."""
        if not isinstance(value, str):
            return value
        for choice in _literals(self.annotation):
            if value == str(choice):
                return choice
        optional = type(None) in get_args(self.annotation)
        return None if optional and value.lower() in ("none", "null") else value


def _literals(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return tuple(c for arg in get_args(annotation) for c in _literals(arg))


_GENERAL = ("config", "dry_run", "help")  # flags that are no options


def sections(config_type: type) -> dict[str, type]:
    """Section name -> section class of an experiment's config, in order."""
    hints = typing.get_type_hints(config_type)
    return {f.name: hints[f.name] for f in dataclasses.fields(config_type)}


def entries(config_type: type) -> dict[str, _Entry]:
    """Canonical option name -> description, over all sections.

    Raises:
        TypeError: two options share a name or an alias (a bug in the declarations).
    """
    found: dict[str, _Entry] = {}
    taken = dict.fromkeys(_GENERAL, "the command line")
    for sec_name, sec in sections(config_type).items():
        for name, info in sec.__pydantic_fields__.items():  # type: ignore[attr-defined]
            extra = info.json_schema_extra or {}
            limits = " ".join(_show_limit(m) for m in info.metadata if _show_limit(m))
            entry = _Entry(
                name, sec_name, info.annotation, info.default, info.description or "",
                extra.get("unit", ""), tuple(extra.get("aliases", ())), limits,
            )  # fmt: skip
            for key in (name, *(a.replace("-", "_") for a in entry.aliases)):
                if key in taken:
                    raise TypeError(f"option '{key}' is declared by {taken[key]} and {sec_name}")
                taken[key] = sec_name
            found[name] = entry
    return found


def _show_limit(meta: Any) -> str:
    for attr, sign in (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<=")):
        if hasattr(meta, attr):
            return f"{sign} {getattr(meta, attr)}"
    return ""


def canonical(name: str, known: Mapping[str, _Entry]) -> str | None:
    """The option that ``name`` (any spelling of ``-``/``_``, or an alias) stands for."""
    plain = name.replace("-", "_")
    if plain in known:
        return plain
    for entry in known.values():
        if plain in (a.replace("-", "_") for a in entry.aliases):
            return entry.name
    return None


# --------------------------------------------------------------------- reading


def read_yaml(path: str | Path, config_type: type) -> dict[str, Any]:
    """The options of a YAML file, flattened; grouped by section or not.

    Raises:
        UsageError: unreadable file, not a mapping, or a key that is no option.
    """
    known = entries(config_type)
    secs = sections(config_type)
    try:
        with open(path, encoding="utf-8") as handle:
            content = yaml.safe_load(handle)
    except OSError as error:
        raise UsageError(f"cannot read config {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"config {path} is not valid YAML: {one_line(str(error))}") from None
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
                raise UsageError(
                    f"config {path}: unknown key '{key}'{where}{nearest(str(key), options)}; "
                    f"valid keys: {', '.join(sorted(options))}"
                )
            if name in values:
                raise UsageError(f"config {path}: option '{name}' is given twice")
            values[name] = value

    take(content, None)
    return values


class _Parser(argparse.ArgumentParser):
    """argparse, with one line for an error."""

    def error(self, message: str) -> typing.NoReturn:
        raise UsageError(message)


class _Formatter(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=100)


def _help_text(entry: _Entry, default: Any) -> str:
    notes = []
    if entry.unit:
        notes.append(entry.unit)
    if entry.constraints:
        notes.append(entry.constraints)
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


def _respell(argv: Sequence[str], known: Mapping[str, _Entry]) -> list[str]:
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
            name = plain if plain in _GENERAL else canonical(plain, known)
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
) -> tuple[T, bool]:
    """Read the command line.

    Args:
        config_type: the experiment's config.
        argv: arguments without the program's name; ``sys.argv[1:]`` by default.
        prog: name in messages.
        description: head of ``--help``.
        defaults: this task's own defaults (below YAML and flags).
        adapt: given the values set so far, further defaults that depend on them.

    Returns:
        The config, and whether ``--dry_run`` was given.

    Raises:
        UsageError: an unknown flag, or a value that is not valid.
    """
    values, dry_run = given_values(
        config_type, argv, prog=prog, description=description, defaults=defaults
    )
    merged = {**(defaults or {}), **(adapt(values) if adapt else {}), **values}
    return build(config_type, merged), dry_run


def given_values(
    config_type: type,
    argv: Sequence[str] | None = None,
    *,
    prog: str,
    description: str = "",
    defaults: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], bool]:
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
            hint = nearest(flag[2:].replace("-", "_"), [*names, *_GENERAL])
            raise UsageError(f"unknown flag {flag}{hint}; --help lists all")
        raise UsageError(f"unexpected argument '{rest[0]}'; options start with --")
    given = vars(space)
    values: dict[str, Any] = {}
    for path in given.pop("config"):
        values.update(read_yaml(path, config_type))
    dry_run = bool(given.pop("dry_run"))
    values.update(given)
    return values, dry_run


def build(config_type: type[T], values: Mapping[str, Any]) -> T:
    """A validated config from flat option values (strings are converted).

    Raises:
        UsageError: an unknown option, or a value that is not valid; all of them, in one line.
    """
    known = entries(config_type)
    unknown = [k for k in values if k not in known]
    if unknown:
        raise UsageError(f"unknown option '{unknown[0]}'{nearest(unknown[0], known)}")
    problems: list[str] = []
    made = {}
    for sec_name, sec in sections(config_type).items():
        own = {k: known[k].read(v) for k, v in values.items() if known[k].section == sec_name}
        try:
            made[sec_name] = sec(**own)
        except pydantic.ValidationError as error:
            problems += [_problem(item, known) for item in error.errors()]
    if problems:
        raise UsageError("; ".join(dict.fromkeys(problems)))
    try:
        return config_type(**made)
    except pydantic.ValidationError as error:
        raise UsageError("; ".join(_problem(e, known) for e in error.errors())) from None


def _problem(item: Any, known: Mapping[str, _Entry]) -> str:
    message = one_line(str(item["msg"])).removeprefix("Value error, ")
    message = message.replace("Input should be", "must be")
    if not item["loc"]:
        return message
    name = str(item["loc"][0])
    value = item.get("input")
    entry = known.get(name)
    if entry is not None and entry.choices and item["type"] == "literal_error":
        options = ", ".join(entry.choices)
        hint = nearest(str(value), entry.choices)
        return f"--{name} {value}: no such choice{hint}; valid: {options}"
    return f"--{name} {value}: {message[:1].lower()}{message[1:]}"


# --------------------------------------------------------------------- writing


def as_dict(config: Any) -> dict[str, dict[str, Any]]:
    """Section -> option -> value, in plain Python types."""
    return {f.name: dataclasses.asdict(getattr(config, f.name)) for f in dataclasses.fields(config)}


def flat(config: Any) -> dict[str, Any]:
    """Option -> value over all sections."""
    return {k: v for sec in as_dict(config).values() for k, v in sec.items()}


def to_yaml(config: Any, extra: Mapping[str, Any] | None = None) -> str:
    """The resolved config as YAML that ``--config`` reads back.

    Args:
        config: an experiment's config.
        extra: further facts (versions, commit) written as comments at the head.
    """
    out = io.StringIO()
    for key, value in (extra or {}).items():
        out.write(f"# {key}: {one_line(str(value))}\n")
    plain = pydantic.TypeAdapter(dict).dump_python(as_dict(config), mode="json")
    yaml.safe_dump(plain, out, sort_keys=False, default_flow_style=False)
    return out.getvalue()


def differences(a: Any, b: Any, ignore: Sequence[str] = ()) -> list[str]:
    """``"name: x != y"`` for every option in which two configs differ."""
    fa, fb = flat(a), flat(b)
    return [
        f"{k}: {fa.get(k)} != {fb.get(k)}"
        for k in {**fa, **fb}
        if k not in ignore and fa.get(k) != fb.get(k)
    ]
