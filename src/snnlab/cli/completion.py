"""``snnlab completion SHELL``: what a shell needs to complete commands, tasks, flags and names.

Where the shell asks (argcomplete sets ``_ARGCOMPLETE``), only the parser of the command that is
being typed is made.
"""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Callable, Sequence
from typing import Any

from snnlab import config_files
from snnlab.cli.main import COMMANDS, PROG
from snnlab.flags import Parser
from snnlab.options import entries
from snnlab.registry import load

SHELLS = ("bash", "zsh", "fish")
TITLE = """Completion of the shell. Put into its start-up file:

  bash  eval "$(snnlab completion bash)"      in ~/.bashrc
  zsh   eval "$(snnlab completion zsh)"       in ~/.zshrc, after compinit
  fish  snnlab completion fish | source       in ~/.config/fish/config.fish"""


def arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument("shell", metavar="|".join(SHELLS), choices=SHELLS)


def main(prog: str, argv: Sequence[str]) -> int:
    """Print the code that a shell runs."""
    import argcomplete

    parser = Parser(
        prog=prog, description=TITLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments(parser)
    shell = parser.parse_args(argv).shell
    print(argcomplete.shellcode([PROG], shell=shell))
    return 0


def complete() -> None:
    """Answer the shell, and leave."""
    import argcomplete

    line, point = os.environ.get("COMP_LINE", ""), int(os.environ.get("COMP_POINT", "0"))
    try:
        words = shlex.split(line[:point])
    except ValueError:  # inside a quote
        words = line[:point].split()
    argcomplete.autocomplete(parser_of(words[1:]), always_complete_options=False)


def parser_of(words: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of the command that these words begin; of the others the names alone."""
    parser = Parser(prog=PROG)
    commands = parser.add_subparsers()
    for name in COMMANDS:
        own = commands.add_parser(name)
        if [name] != list(words[:1]):
            continue
        if name == "run":
            _run(own, words[1:])
        elif name in (
            "configs", "info", "compare", "report", "reproduce", "data", "completion", "export",
            "import",
        ):  # fmt: skip
            module = COMMANDS[name].main.partition(":")[0]
            load(f"snnlab.cli.{module}:arguments")(own)
        elif name == "sweep":
            _complete(own.add_argument("sweep"), _names(config_files.SWEEPS))
    _values(parser)
    return parser


def _run(parser: Parser, words: Sequence[str]) -> None:
    """Tasks, and the flags of the one that is named."""
    from snnlab.cli.run import names
    from snnlab.flags import make_parser
    from snnlab.problems.tasks import TASKS

    tasks = parser.add_subparsers()
    for name in names():
        if [name] != list(words[:1]) or name not in TASKS:
            tasks.add_parser(name)
            continue
        kind = TASKS[name].config
        known = entries(kind)
        flags: Any = make_parser(kind, known, name)
        for action in flags._actions:
            entry = known.get(action.dest)
            if action.dest == "config":
                _complete(action, _names(TASKS[name].files))
            elif entry is not None and entry.choices:
                _complete(action, lambda choices=entry.choices, **_: choices)
        tasks.add_parser(name, parents=[flags], add_help=False)


def _values(parser: Parser) -> None:
    """Names of configs and datasets, for the words that take one."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                _values(inner)
                for own in inner._actions:
                    if (name, own.dest) == ("show", "name"):
                        _complete(own, lambda **_: config_files.names())
                    elif (name, own.dest) == ("reproduce", "claim"):
                        _complete(own, _claims)
                    elif (name, own.dest) == ("prepare", "name"):
                        _complete(own, lambda **_: load("snnlab.data.prepared:names")())


def _claims(prefix: str = "", **_: Any) -> Sequence[str]:
    """Words and names of ``snnlab reproduce``, and files."""
    words = [word for word in ("list", "table") if word.startswith(prefix)]
    return words + list(_names(config_files.CLAIMS)(prefix))


def _names(folder: str) -> Callable[..., Sequence[str]]:
    """The names of a folder's configs, short ones, and files."""

    def complete(prefix: str = "", **_: Any) -> Sequence[str]:
        import argcomplete.completers

        short = [name.rpartition("/")[2] for name in (config_files.names(folder) if folder else ())]
        found = [name for name in short if name.startswith(prefix)]
        return found + list(argcomplete.completers.FilesCompleter(("yaml",))(prefix))

    return complete


def _complete(action: argparse.Action, completer: Callable[..., Any]) -> None:
    """Give argcomplete what completes the value of an argument."""
    action.completer = completer  # type: ignore[attr-defined]
