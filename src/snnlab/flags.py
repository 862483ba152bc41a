"""The command line as argparse reads it, and what ``--help`` shows of it."""

from __future__ import annotations

import argparse
import re
import textwrap
import typing
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from snnlab.errors import UsageError, nearest, shown
from snnlab.options import (
    GENERAL,
    Entry,
    canonical,
    sections,
    show_conditions,
    shown_value,
    void_by,
)

WIDTH = 100


class Guide(NamedTuple):
    """What ``--help`` shows below the options.

    Attributes:
        examples: flags of a command line -> what it does.
        files: config files that go with the flags given -> what they are.
        problem: what is wrong with the flags given, if something is.
    """

    examples: Mapping[str, str] = {}
    files: Mapping[str, str] = {}
    problem: str = ""


class Parser(argparse.ArgumentParser):
    """argparse without abbreviations, and with one line for an error."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})

    def error(self, message: str) -> typing.NoReturn:
        """Refuse the command line: what is wrong, and what is nearest to it.

        Raises:
            UsageError: always.
        """
        choice = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message, re.DOTALL)
        if choice:
            valid = [word.strip(" '") for word in choice[2].split(",")]
            raise UsageError(
                f"{self.prog} has no '{shown(choice[1])}'{nearest(choice[1], valid)}; valid: "
                f"{', '.join(valid)}"
            )
        unknown = re.fullmatch(r"unrecognized arguments: (--\S+).*", message, re.DOTALL)
        if unknown:
            known = [s for action in self._actions for s in action.option_strings]
            flag = unknown[1].split("=")[0]
            message = f"unknown flag {shown(flag)}{nearest(flag, known)}; {self.prog} --help"
        raise UsageError(shown(message, 200))


class _Formatter(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=WIDTH)


def make_parser(
    config_type: type, known: Mapping[str, Entry], prog: str, description: str = "",
    defaults: Mapping[str, Any] | None = None, only: Collection[str] | None = None,
) -> Parser:  # fmt: skip
    """The command line of a config, grouped by section.

    It knows each flag in its canonical spelling; :func:`respelled` respells arguments.

    Args:
        config_type: the experiment's config.
        known: its options.
        prog, description: head of the help.
        defaults: option -> default, shown in place of the sections' own.
        only: options that it has; all by default.
    """
    parser = Parser(
        prog=prog, description=description, formatter_class=_Formatter,
        usage=f"{prog} [--flag value ...]", add_help=False,
    )  # fmt: skip
    general = parser.add_argument_group("configuration")
    general.add_argument("--config", action="append", default=[], metavar="YAML",
                         help="options from a YAML file, or one that snnlab configs names, below "
                         "flags and above defaults; may be repeated")  # fmt: skip
    for name, text in (
        ("dry_run", "print the resolved config as YAML, what differs from its default marked, and "
         "leave"),
        ("help", "the options that are changed first, and leave; with other flags, the defaults "
         "are those with them"),
        ("help_all", "all options that can have an effect with the other flags, and leave"),
    ):  # fmt: skip
        short = ("-h",) if name == "help" else ()
        general.add_argument(*short, f"--{name}", action="store_true", help=text)
    for sec_name, sec in sections(config_type).items():
        mine = [
            e for e in known.values() if e.section == sec_name and (only is None or e.name in only)
        ]
        if not mine:
            continue
        group = parser.add_argument_group(getattr(sec, "__section_title__", sec_name))
        for entry in mine:
            kwargs: dict[str, Any] = {"metavar": "X"}
            if entry.choices:
                kwargs["metavar"] = "{" + ",".join(entry.choices) + "}"
            if entry.is_flag:
                kwargs = {"metavar": "0|1", "nargs": "?", "const": "true"}
            elif entry.bare:
                kwargs |= {"nargs": "?", "const": entry.bare}
            default = (defaults or {}).get(entry.name, entry.default)
            group.add_argument(
                f"--{entry.name}",
                default=argparse.SUPPRESS,
                help=_help_of(entry, default),
                **kwargs,
            )
    return parser


def _help_of(entry: Entry, default: Any) -> str:
    notes = [note for note in (entry.unit, entry.constraints) if note]
    if entry.only:
        notes.append("only with " + show_conditions(entry.only))
    notes.append(f"default {'none' if default is None else default if default != '' else 'empty'}")
    if entry.aliases:
        notes.append("also " + ", ".join(f"--{a}" for a in entry.aliases))
    return f"{entry.help} [{'; '.join(notes)}]".replace("%", "%%")


def help_text(
    config_type: type, known: Mapping[str, Entry], prog: str, description: str,
    defaults: Mapping[str, Any], given: Mapping[str, Any], everything: bool, guide: Guide,
) -> str:  # fmt: skip
    """What ``--help`` and ``--help_all`` print.

    Args:
        config_type, known: the config and its options.
        prog, description: head.
        defaults: option -> default, with the flags given.
        given: option -> value of a flag or file: options that cannot count beside them, and in the
            short form beside the default model, are left out.
        everything: all options, in place of those that are changed first.
        guide: what follows.
    """
    chosen = {} if everything or "model" not in known else {"model": defaults["model"]}
    void = void_by({**chosen, **given}, known)
    some = any(entry.basic for entry in known.values())
    names = [n for n, e in known.items() if n not in void and (everything or e.basic or not some)]
    text = [make_parser(config_type, known, prog, description, defaults, names).format_help()]
    if everything and void:
        flags = ", ".join(f"--{n}" for n in void)
        why = ", ".join(f"--{n} {shown(shown_value(v))}" for n, v in given.items())
        text.append(_wrapped(f"Without effect with {why}, and not shown: {flags}"))
    if not everything and len(names) < len(known) - len(void):
        text.append(f"{len(known)} options in all: --help_all\n")
    for title, lines, start in (
        ("examples", guide.examples, f"{prog} "), ("configs that go with these flags (--config)",
                                                   guide.files, "")
    ):  # fmt: skip
        if lines:
            text.append(f"{title}:\n" + "".join(
                f"  {start}{line}\n{_wrapped(what, 6)}" for line, what in lines.items()
            ))  # fmt: skip
    text.append("In flags, '-' and '_' are the same.")
    if guide.problem:
        text.append(f"The flags given were not used: {guide.problem}")
    return "\n".join(text)


def _wrapped(text: str, indent: int = 0) -> str:
    space = " " * indent
    lines = textwrap.wrap(
        text, WIDTH, initial_indent=space, subsequent_indent=space, break_on_hyphens=False
    )
    return "\n".join(lines) + "\n" if lines else ""


def respelled(argv: Sequence[str], known: Mapping[str, Entry]) -> list[str]:
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
