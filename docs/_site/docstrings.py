"""Docstrings as Markdown: roles become links, examples blocks of code, ``#:`` a docstring.

The API reference is made of them by griffe, which reads Google's sections.
"""

from __future__ import annotations

import html
import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):`(~?)([^`]+)`")
#: A line that ends in ``::``, and the indented block that follows.
LITERAL = re.compile(r"^( *)(\S.*)::\n\n((?:\1 +\S.*(?:\n|$)|\n)+)", re.MULTILINE)
#: An entry of Args or Attributes for several names.
SEVERAL = re.compile(r"^    ((?:\w+, )+\w+)(: .*(?:\n     +\S.*)*)", re.MULTILINE)
DOCTEST = re.compile(r"^( *)>>> .*(?:\n\1\S.*)*", re.MULTILINE)


def _literal(found: re.Match[str]) -> str:
    margin, title, block = found.groups()
    lines = block.rstrip().splitlines()
    cut = min(len(line) - len(line.lstrip()) for line in lines if line)
    code = "\n".join(margin + line[cut:] if line else "" for line in lines)
    title = "**Example**" if title == "Example" else f"{title}:"
    return f"{margin}{title}\n\n{margin}```python\n{code}\n{margin}```\n\n"


def _doctest(found: re.Match[str]) -> str:
    return f"{found[1]}```pycon\n{found[0]}\n{found[1]}```"


def _several(found: re.Match[str]) -> str:
    return "\n".join(f"    {name}{found[2]}" for name in found[1].split(", "))


def as_markdown(text: str, obj: Any) -> str:
    """A docstring of ``obj``; what it refers to is a link where the reference has it."""

    def role(found: re.Match[str]) -> str:
        short, name = found.groups()
        try:
            target = name if name.startswith("snnlab.") else obj.resolve(name)
        except griffe.NameResolutionError:
            target = name
        said = html.escape(name.rpartition(".")[2] if short else name)
        return f'<autoref identifier="{html.escape(target)}" optional><code>{said}</code></autoref>'

    text = SEVERAL.sub(_several, LITERAL.sub(_literal, text))
    return ROLE.sub(role, DOCTEST.sub(_doctest, text))


def comment(obj: Any) -> str:
    """What ``#:`` says above an attribute."""
    lines, row = obj.lines_collection[obj.filepath], obj.lineno - 2
    found: list[str] = []
    while row >= 0 and lines[row].strip().startswith("#:"):
        found.insert(0, lines[row].strip()[2:].strip())
        row -= 1
    return "\n".join(found)


class Docstrings(griffe.Extension):
    """Changes every docstring of the package as it is read."""

    def on_attribute_instance(self, *, attr: Any, **_: Any) -> None:
        if attr.docstring is None and (text := comment(attr)):
            attr.docstring = griffe.Docstring(text, lineno=attr.lineno, parent=attr)

    def on_package(self, *, pkg: Any, **_: Any) -> None:
        self._rewrite(pkg)

    def _rewrite(self, obj: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value, obj)
        for member in obj.members.values():
            if not member.is_alias:
                self._rewrite(member)
