"""Options: how a section declares them, and where they have an effect.

A *section* is a frozen dataclass whose fields are made by :func:`option`; a config is one whose
fields are sections. :mod:`snnlab.config` reads and writes configs.

An option may have an effect for some values of others alone (``only``). Given all the same, it is
refused; not given it has its own default, whatever a task's defaults say.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    TypeVar,
    dataclass_transform,
    get_args,
    get_origin,
)

import pydantic
import pydantic.dataclasses

from snnlab.errors import shown

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Over:
    """Values above ``bound``: a condition of ``only``."""

    bound: float


#: Values that are not off (false, none, empty, 0): a condition of ``only``.
SET = "set"
#: Option -> values for which another option has an effect: a tuple, :data:`SET` or :class:`Over`.
Condition = Mapping[str, tuple[Any, ...] | str | Over]


def option(
    default: Any,
    help: str,
    *,
    unit: str = "",
    aliases: Sequence[str] = (),
    only: Condition | Sequence[Condition] = (),
    accepted: tuple[Any, ...] | None = None,
    says: Mapping[Any, str] | None = None,
    continues: bool = False,
    basic: bool = False,
    bare: str = "",
    **constraints: Any,
) -> Any:
    """A field of a section.

    Args:
        default: value without flag or YAML.
        help: one sentence, shown by ``--help``.
        unit: physical unit of the value, shown by ``--help`` (for example ``"ms"``).
        aliases: other accepted flag and YAML names.
        only: where the option has an effect: all of a condition's options have such values. Of
            several conditions one is enough. Elsewhere it is refused if it is given.
        accepted: values that may be given although nothing reads them, since what they ask for
            holds anyway (``help`` says why); none for all values. A user is told so.
        says: value -> line for a user who gives it.
        continues: a value takes all others from elsewhere, so that conditions are not checked.
        basic: shown by the short ``--help``.
        bare: what the flag alone means, without a value.
        **constraints: pydantic's ``gt, ge, lt, le, pattern ...``.
    """
    extra: Any = {
        "unit": unit, "aliases": list(aliases), "accepted": accepted, "says": says or {},
        "only": _several(only), "continues": continues,
        "basic": basic, "bare": bare,
    }  # fmt: skip
    return pydantic.Field(default=default, description=help, json_schema_extra=extra, **constraints)


def _several(only: Condition | Sequence[Condition]) -> tuple[Condition, ...]:
    return (only,) if isinstance(only, Mapping) else tuple(only)


@dataclass_transform(field_specifiers=(option,), frozen_default=True)
def section(
    title: str, only: Mapping[str, Condition | Sequence[Condition]] | None = None,
    fixed: Mapping[str, Any] | None = None,
) -> Callable[[type[T]], type[T]]:  # fmt: skip
    """Class decorator: a frozen, strictly keyed and validated section with a help title.

    Args:
        title: of its part of ``--help``.
        only: option -> condition, or several, in the place of those of its declaration (of
            inherited ones).
        fixed: inherited options that it does not have -> the value that they always have, or a
            property that says it.
    """

    def wrap(cls: type[T]) -> type[T]:
        for name, value in (fixed or {}).items():
            cls.__annotations__[name] = ClassVar[Any]
            setattr(cls, name, value)
        made = pydantic.dataclasses.dataclass(
            frozen=True,
            config=pydantic.ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False),
        )(cls)
        made.__section_title__ = title  # type: ignore[attr-defined]
        made.__section_only__ = {k: _several(v) for k, v in (only or {}).items()}  # type: ignore[attr-defined]
        return made  # type: ignore[return-value]

    return wrap


def _usable_path(text: str) -> str:
    if not text.isprintable():  # a zero byte, a line break, bytes that are no UTF-8
        raise ValueError("must be printable text of one line")
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        raise ValueError("there is no such user") from None
    longest = max((len(part.encode("utf-8", "surrogateescape")) for part in path.parts), default=0)
    if longest > 255 or len(str(path).encode("utf-8", "surrogateescape")) > 4000:
        raise ValueError("longer than a file system takes (255 bytes a name, 4,000 in all)")
    return text


def _usable_name(text: str) -> str:
    long = len(text.encode("utf-8", "surrogateescape")) > 100
    if long or not text.isprintable() or "/" in text or "\\" in text:
        raise ValueError("must be a name of at most 100 bytes, without folders")
    return text


def _commas(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        return value
    nested = any(isinstance(part, list | tuple | dict | None) for part in value)
    return value if nested else ",".join(map(shown_value, value))


#: A comma list; YAML's and Python's lists are read as one.
CommaText = Annotated[str, pydantic.BeforeValidator(_commas)]
#: A path; ``~`` and ``~user`` are expanded by whoever opens it.
PathText = Annotated[str, pydantic.AfterValidator(_usable_path)]
#: A part of a file's name.
NameText = Annotated[str, pydantic.AfterValidator(_usable_name)]


@dataclasses.dataclass(frozen=True)
class Entry:
    """One option: where it lives, how it is shown, when it counts."""

    name: str
    section: str
    annotation: Any
    default: Any
    help: str
    unit: str
    aliases: tuple[str, ...]
    constraints: str
    only: tuple[Condition, ...] = ()
    accepted: tuple[Any, ...] | None = None
    says: Mapping[Any, str] = dataclasses.field(default_factory=dict)
    continues: bool = False
    is_path: bool = False
    is_list: bool = False
    basic: bool = False
    bare: str = ""

    @property
    def is_flag(self) -> bool:
        return self.annotation is bool

    @property
    def choices(self) -> tuple[str, ...]:
        return tuple(str(v) for v in literals(self.annotation))

    def read(self, value: Any) -> Any:
        """``value`` with other spellings read: "none", a number as text, a comma list as a list."""
        value = _commas(value) if self.is_list else value
        if not isinstance(value, str):
            return value
        for choice in literals(self.annotation):
            if value == str(choice):
                return choice
        optional = type(None) in get_args(self.annotation)
        return None if optional and value.lower() in ("none", "null") else value


def literals(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return tuple(c for arg in get_args(annotation) for c in literals(arg))


GENERAL = ("config", "dry_run", "help", "help_all")  # flags that are no options


def sections(config_type: type) -> dict[str, type]:
    """Section name -> section class of an experiment's config, in order."""
    hints = typing.get_type_hints(config_type)
    return {f.name: hints[f.name] for f in dataclasses.fields(config_type)}


def entries(config_type: type) -> dict[str, Entry]:
    """Canonical option name -> description, over all sections.

    Raises:
        TypeError: two options share a name or an alias (a bug in the declarations).
    """
    found: dict[str, Entry] = {}
    taken = dict.fromkeys(GENERAL, "the command line")
    for sec_name, sec in sections(config_type).items():
        for name, info in sec.__pydantic_fields__.items():  # type: ignore[attr-defined]
            extra = info.json_schema_extra or {}
            limits = " ".join(_show_limit(m) for m in info.metadata if _show_limit(m))
            by = [getattr(m, "func", None) for m in info.metadata]
            entry = Entry(
                name, sec_name, info.annotation, info.default, info.description or "",
                extra.get("unit", ""), tuple(extra.get("aliases", ())), limits,
                sec.__section_only__.get(name, extra.get("only", ())),  # type: ignore[attr-defined]
                extra.get("accepted"), extra.get("says", {}), extra.get("continues", False),
                _usable_path in by, _commas in by, extra.get("basic", False), extra.get("bare", ""),
            )  # fmt: skip
            for key in (name, *(a.replace("-", "_") for a in entry.aliases)):
                if key in taken:
                    raise TypeError(f"option '{key}' is declared by {taken[key]} and {sec_name}")
                taken[key] = sec_name
            found[name] = entry
    for entry in found.values():
        strange = {n for condition in entry.only for n in condition} - set(found)
        if strange:
            raise TypeError(f"option '{entry.name}' depends on '{min(strange)}', which is none")
    return found


def _show_limit(meta: Any) -> str:
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    return next((f"{s} {getattr(meta, a)}" for a, s in signs.items() if hasattr(meta, a)), "")


def canonical(name: str, known: Mapping[str, Entry]) -> str | None:
    """The option that ``name`` (any spelling of ``-``/``_``, or an alias) stands for."""
    plain = name.replace("-", "_")
    if plain in known:
        return plain
    for entry in known.values():
        if plain in (a.replace("-", "_") for a in entry.aliases):
            return entry.name
    return None


def as_dict(config: Any) -> dict[str, dict[str, Any]]:
    """Section -> option -> value, in plain Python types."""
    return {f.name: dataclasses.asdict(getattr(config, f.name)) for f in dataclasses.fields(config)}


def flat(config: Any) -> dict[str, Any]:
    """Option -> value over all sections."""
    return {k: v for sec in as_dict(config).values() for k, v in sec.items()}


def too_large(name: str, value: Any) -> str:
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


# ------------------------------------------------------------- options without effect


def shown_value(value: Any) -> str:
    return (
        "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )


def show_conditions(conditions: Sequence[Condition]) -> str:
    """``--model a, b with --beta, or --other``."""

    def one(name: str, wanted: Any) -> str:
        if isinstance(wanted, Over):
            return f"--{name} above {wanted.bound:g}"
        return f"--{name}" if wanted == SET else f"--{name} {', '.join(map(shown_value, wanted))}"

    return ", or ".join(" with ".join(one(*item) for item in c.items()) for c in conditions)


def _unmet(conditions: Sequence[Condition], values: Mapping[str, Any]) -> str:
    """What keeps an option from having an effect, if something does: ``to --model lif-delta``."""
    first = ""
    for condition in conditions:
        name = next((n for n, wanted in condition.items() if not met(values[n], wanted)), "")
        if not name:
            return ""
        off = f"without --{name}" if condition[name] == SET else ""
        first = first or off or f"to --{name} {shown_value(values[name])}"
    return first


def void_options(config: Any) -> dict[str, str]:
    """Option without effect -> the reason (``to --model lif-delta``), of a config."""
    return _void(flat(config), entries(type(config)))


def _void(values: Mapping[str, Any], known: Mapping[str, Entry]) -> dict[str, str]:
    values, found = dict(values), dict[str, str]()
    while True:  # what depends on an option without effect has none either
        more = {
            k: why for k, e in known.items()
            if k not in found and e.only and (why := _unmet(e.only, values))
        }  # fmt: skip
        if not more:
            return found
        found |= more
        values |= {k: known[k].default for k in more}


def void_by(given: Mapping[str, Any], known: Mapping[str, Entry]) -> list[str]:
    """Options that cannot count, whatever else is set: each of their conditions names one that is
    ``given`` another value, or that cannot count itself.

    Args:
        given: option -> value.
        known: all options.
    """
    void: list[str] = []

    def fails(name: str, wanted: Any) -> bool:
        if name in void:
            return True
        return name in given and not met(given[name], wanted)

    while True:
        more = [
            k for k, e in known.items()
            if k not in void and k not in given and e.only
            and all(any(fails(*item) for item in c.items()) for c in e.only)
        ]  # fmt: skip
        if not more:
            return void
        void += more


def met(value: Any, wanted: Any) -> bool:
    """Whether a value is one for which an option counts."""
    if isinstance(wanted, Over):
        return value > wanted.bound
    return bool(value) if wanted == SET else value in wanted


def given_in_vain(made: Mapping[str, Any], known: Mapping[str, Entry], given: Given) -> list[str]:
    """What is wrong with options that nothing would read.

    Off (false, none, empty, 0) may be given anywhere if that is the default; a file may hold any
    default, such as the one that a run leaves behind.
    """
    values = {k: getattr(made[e.section], k) for k, e in known.items()}
    void, problems = _void(values, known), []
    for name in given:
        entry, value = known[name], values[name]
        is_default = value == entry.default
        if is_default and (name in given.files or not value):
            continue
        where = f" ({shown(given.files[name])})" if name in given.files else ""
        if name in void:
            meant = show_conditions(entry.only)
            problems.append(
                f"--{name} does not apply {shown(void[name])}, only with {meant}{where}"
            )
        elif entry.accepted and value not in entry.accepted:
            text = f"--{name} {shown(shown_value(value))}"
            problems.append(f"{text}: not possible ({entry.help}){where}")
    return problems


def without_void(made: Mapping[str, Any], known: Mapping[str, Entry]) -> dict[str, Any]:
    """The sections, with the default for every option that has no effect."""
    values = {k: getattr(made[e.section], k) for k, e in known.items()}
    changed: dict[str, dict[str, Any]] = {}
    for name in _void(values, known):
        entry = known[name]
        if values[name] != entry.default:
            changed.setdefault(entry.section, {})[name] = entry.default
    return {k: dataclasses.replace(v, **changed[k]) if k in changed else v for k, v in made.items()}


def notes(config: Any, given: Mapping[str, Any]) -> list[str]:
    """Lines for the user about options that were given."""
    known, values, lines = entries(type(config)), flat(config), []
    for name in given:
        entry, value = known[name], values[name]
        if entry.accepted is not None and (value or value != entry.default):
            lines.append(f"--{name} {shown(shown_value(value))}: {entry.help}")
        if value in entry.says:
            lines.append(f"--{name} {shown(shown_value(value))}: {entry.says[value]}")
    return lines


class Given(dict[str, Any]):
    """Option -> value as the user gave it; ``files`` has those of a YAML file, with its name."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, str] = {}
