"""Strict configuration: YAML and flags into frozen dataclasses.

:mod:`snnlab.options` says what sections and options are. Names are unique over all sections,
so a flag is simply ``--name`` and a YAML file may be flat or grouped by section.

Precedence: flags over the YAML files of ``--config`` over defaults. pydantic validates
values from both sources in the same way; argparse reads the command line. This module knows
no model, no dataset and no learner: each package declares its own section.
"""

from __future__ import annotations

import io
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import pydantic
import pydantic.dataclasses

from snnlab import config_files
from snnlab.errors import UsageError, nearest, one_line, shown
from snnlab.flags import Guide, help_text, make_parser, respelled
from snnlab.options import (
    GENERAL,
    SET,
    CommaText,
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
    too_large,
    void_options,
    without_void,
)
from snnlab.yaml_files import read_yaml_file, write_yaml

__all__ = [
    "SET", "CommaText", "Given", "Guide", "NameText", "Over", "PathText", "as_dict", "build",
    "canonical", "defaults_beside", "differences", "entries", "flat", "gather", "given_values",
    "kinds", "notes", "option", "parse", "read_yaml", "renamed", "resolve", "section", "sections",
    "to_yaml", "void_options",
]  # fmt: skip

T = TypeVar("T")
#: From the options given to further defaults.
Adapt = Callable[[dict[str, Any]], Mapping[str, Any]]

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


def renamed(values: Mapping[str, Any], known: Mapping[str, Entry]) -> dict[str, Any]:
    """Options of a saved run under the names that they have today."""
    return {canonical(name, known) or name: value for name, value in values.items()}


def parse(
    config_type: type[T],
    argv: Sequence[str] | None = None,
    *,
    prog: str,
    description: str,
    defaults: Mapping[str, Any] | None = None,
    adapt: Adapt | None = None,
    note: Callable[[str], object] | None = None,
    examples: Mapping[str, str] | None = None,
    files: str = "",
) -> tuple[T, bool]:
    """Read the command line; ``--help`` and ``--help_all`` print, and leave with exit code 0.

    Args:
        config_type: the experiment's config.
        argv: arguments without the program's name; ``sys.argv[1:]`` by default.
        prog: name in messages.
        description: head of ``--help``.
        defaults: this task's own defaults (below YAML and flags).
        adapt: given the values set so far, further defaults that depend on them.
        note: takes the lines that the user should see (not with ``--dry_run``).
        examples: for ``--help``: flags -> what this command line does.
        files: for ``--help``: folder of ``configs/`` whose files belong to this command.

    Returns:
        The config, and whether ``--dry_run`` was given.

    Raises:
        UsageError: an unknown flag, or a value that is not valid.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    known = entries(config_type)
    asked = {"--help_all", "--help", "-h"} & set(respelled(argv, known))
    if asked:
        guide = Guide(examples or {})
        given: dict[str, Any] = {}
        try:
            values, _ = given_values(config_type, argv, prog=prog, folder=files)
            found = defaults_beside(config_type, values, defaults, adapt)
            options = flat(build(config_type, {**found, **values}))
            given = {name: options[name] for name in values}
            guide = guide._replace(files=_files_that_fit(config_type, files, given, found))
        except UsageError as error:  # the help of a command line without flags is one as well
            guide = guide._replace(problem=str(error))
            found = defaults_beside(config_type, {}, defaults, adapt)
        everything = "--help_all" in asked
        print(help_text(config_type, known, prog, description, found, given, everything, guide))
        raise SystemExit(0)
    values, dry_run = given_values(config_type, argv, prog=prog, folder=files)
    made = resolve(config_type, values, defaults=defaults, adapt=adapt)
    if note is not None and not dry_run:
        for line in notes(made, values):
            note(line)
    return made, dry_run


def resolve(
    config_type: type[T], given: Given, *, defaults: Mapping[str, Any] | None = None,
    adapt: Adapt | None = None,
) -> T:  # fmt: skip
    """The config of what a user gave, above defaults; see :func:`parse`.

    Raises:
        UsageError: a value that is not valid, or has no effect.
    """
    merged = {**(defaults or {}), **(adapt(given) if adapt else {}), **given}
    known = entries(config_type)
    continues = any(known[name].continues and value for name, value in given.items())
    return build(config_type, merged, None if continues else given)


def defaults_beside(
    config_type: type, given: dict[str, Any], defaults: Mapping[str, Any] | None = None,
    adapt: Adapt | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Option -> the value that it has unless it is given, on a command line with ``given``."""
    own = {name: entry.default for name, entry in entries(config_type).items()}
    return {**own, **(defaults or {}), **(adapt(given) if adapt else {})}


def _files_that_fit(
    config_type: type, folder: str, given: Mapping[str, Any], defaults: Mapping[str, Any]
) -> dict[str, str]:
    """Files of a folder of ``configs/`` that say nothing else than ``given``: name -> first line.

    Of them those that say most of what is given, and first what is nearest to the defaults.
    """
    known = config_files.offered(folder) if folder else {}
    fit: list[tuple[int, int, str]] = []
    for name, path in sorted(known.items()):
        try:
            says = read_yaml(path, config_type)
        except UsageError:
            continue
        both = set(says) & set(given)
        if all(says[option] == given[option] for option in both):
            fit.append((-len(both), sum(says[o] != defaults[o] for o in says), name))
    nearest_files = sorted(entry for entry in fit if entry[0] == min(fit)[0])[:3]
    return {name: config_files.title(known[name]) for _, _, name in nearest_files}


def given_values(
    config_type: type, argv: Sequence[str] | None = None, *, prog: str, folder: str = ""
) -> tuple[Given, bool]:
    """The options that the command line and its YAML files set, and whether ``--dry_run`` is.

    Raises:
        UsageError: an unknown flag, or a YAML file that cannot be used.
    """
    known = entries(config_type)
    parser = make_parser(config_type, known, prog)
    space, rest = parser.parse_known_args(respelled(sys.argv[1:] if argv is None else argv, known))
    if rest:
        flag = rest[0].split("=")[0]
        if flag.startswith("--"):
            names = [n for e in known.values() for n in (e.name, *e.aliases)]
            hint = nearest(flag[2:].replace("-", "_"), [*names, *GENERAL])
            raise UsageError(f"unknown flag {shown(flag)}{hint}; --help_all lists all")
        raise UsageError(f"unexpected argument '{shown(rest[0])}'; options start with --")
    given = vars(space)
    paths = ("config", *(name for name, entry in known.items() if entry.is_path))
    empty = [name for name in paths if given.get(name) == "" or given.get(name) == [""]]
    if empty:
        raise UsageError(f"--{empty[0]} is given, but empty (an unset variable?); leave it out")
    dry_run = bool(given.pop("dry_run"))
    del given["help"], given["help_all"]
    return gather(config_type, given.pop("config"), given, folder), dry_run


def gather(
    config_type: type, files: Sequence[str], options: Mapping[str, Any], folder: str = ""
) -> Given:
    """The options of YAML files, each above those before it, and above them ``options``.

    Args:
        files, folder: paths or names, see :func:`snnlab.config_files.find`.
        options: option -> value.

    Raises:
        UsageError: a YAML file that cannot be used.
    """
    values = Given()
    for path in files:
        found = read_yaml(config_files.find(path, folder), config_type)
        values.update(found)
        values.files.update(dict.fromkeys(found, path))
    values.update(options)
    lists = [entry for entry in entries(config_type).values() if entry.is_list]
    values.update({e.name: e.read(values[e.name]) for e in lists if e.name in values})
    for name in options:
        values.files.pop(name, None)
    return values


def build(config_type: type[T], values: Mapping[str, Any], given: Given | None = None) -> T:
    """A validated config from flat option values (strings are converted).

    Args:
        config_type: the experiment's config.
        values: option -> value.
        given: those of them that the user asked for: refused where they have no effect.

    Raises:
        UsageError: an unknown option, or a value that is not valid; all of them, in one line.

    >>> import dataclasses
    >>> @section("Training")
    ... class Training:
    ...     lr: float = option(1e-3, "learning rate", gt=0)
    >>> Config = dataclasses.make_dataclass("Config", [("training", Training)], frozen=True)
    >>> build(Config, {"lr": "0.1"}).training.lr
    0.1
    >>> build(Config, {"lr": -1})
    Traceback (most recent call last):
    snnlab.errors.UsageError: --lr -1: must be greater than 0
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
        problems += [line for k, v in options.items() if (line := too_large(k, v))]
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
    allowed = kinds(entry.annotation)
    if isinstance(value, bool) and bool not in allowed and allowed & {int, float}:
        return f"--{entry.name} {str(value).lower()}: must be a number, not true or false"
    if isinstance(value, str) and not value.isprintable():
        return f"--{entry.name} {shown(value)}: must be printable text of one line"
    return ""


def kinds(annotation: Any) -> set[Any]:
    """Types that an annotation is made of."""
    parts = get_args(annotation)
    if not parts or get_origin(annotation) is Literal:
        return {annotation}
    return {kind for part in parts for kind in kinds(part)}


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


def to_yaml(
    config: Any, extra: Mapping[str, Any] | None = None, defaults: Mapping[str, Any] | None = None
) -> str:
    """The resolved config as YAML that ``--config`` reads back.

    Options without effect are left out; read back, they have their defaults.

    Args:
        config: an experiment's config.
        extra: further facts (versions, commit) written as comments at the head.
        defaults: option -> default: an option that differs has a comment that says so.
    """
    out = io.StringIO()
    for key, value in (extra or {}).items():
        out.write(f"# {key}: {one_line(str(value))}\n")
    void = void_options(config)
    used = {s: {k: v for k, v in o.items() if k not in void} for s, o in as_dict(config).items()}
    plain = pydantic.TypeAdapter(dict).dump_python(used, mode="json")
    if defaults is None:
        return out.getvalue() + write_yaml(plain)
    for name, options in plain.items():
        out.write(f"{name}:\n" if options else f"{name}: {{}}\n")
        for option_name, value in options.items():
            line = textwrap.indent(write_yaml({option_name: value}), "  ")
            default = defaults[option_name]
            if used[name][option_name] != default:
                shown_default = one_line(write_yaml([default])).removeprefix("- ")
                line = f"{line.rstrip()}  # default {shown_default}\n"
            out.write(line)
    return out.getvalue()


def differences(a: Any, b: Any, ignore: Sequence[str] = ()) -> list[str]:
    """``"name: x != y"`` for every option in which two configs differ."""
    fa, fb = flat(a), flat(b)
    return [
        f"{k}: {fa.get(k)} != {fb.get(k)}"
        for k in {**fa, **fb}
        if k not in ignore and fa.get(k) != fb.get(k)
    ]
