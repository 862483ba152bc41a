"""``--published``: a task's settings as in the experiment that its commands come from.

A task declares them in a table beside its config, a :class:`Published`. With ``--published`` they
are its defaults: flags and files given beside it go before them. Without it, the first line of a
run counts those that are otherwise. ``docs/fidelity.md`` says what each does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from snnlab import config as configs
from snnlab.errors import UsageError
from snnlab.options import Condition, met, show_conditions


@dataclasses.dataclass(frozen=True)
class Setting:
    """The published value of an option.

    Attributes:
        option: its name.
        value: the published one.
        when: options and values with which it is published, as in ``only`` of an option.
        free: it is the default of a flag of the published program, so that another value is no
            deviation.
        off: of a free one, the value that the published program does not have.
        like: in the place of ``value``, the option whose value it has there.
    """

    option: str
    value: Any = None
    when: Condition = dataclasses.field(default_factory=dict)
    free: bool = False
    off: Any = None
    like: str = ""


@dataclasses.dataclass(frozen=True)
class Published:
    """What was published of a task.

    Attributes:
        settings: of it; of several for an option the last one that holds counts.
        only: options and values that a published experiment has.
        others: further published programs of the task, which ``--published`` does not choose.
    """

    settings: tuple[Setting, ...]
    only: Condition = dataclasses.field(default_factory=dict)
    others: tuple[Published, ...] = ()

    def _of(self, options: Mapping[str, Any]) -> dict[str, tuple[Setting, Any]]:
        """Option -> what is published of it beside the values that all options have."""
        return {
            s.option: (s, options[s.like] if s.like else s.value)
            for s in self.settings if holds(s.when, options)
        }  # fmt: skip

    def values(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Option -> published value, beside the values that all options have."""
        return {name: value for name, (_, value) in self._of(options).items()}

    def differing(self, config: Any) -> dict[str, tuple[Any, Any]]:
        """Option -> (value, published value) where a config is otherwise than published.

        Options without effect, and free ones that are not off, are left out. Of several programs
        that of which fewest differ. Of a config that no published experiment is like, nothing
        differs.
        """
        options, void = configs.flat(config), configs.void_options(config)
        if not holds(self.only, options):
            return {}
        own = {
            name: (options[name], value) for name, (setting, value) in self._of(options).items()
            if options[name] != value and name not in void
            and not (setting.free and (setting.off is None or options[name] != setting.off))
        }  # fmt: skip
        fits = [one.differing(config) for one in self.others if holds(one.only, options)]
        return min([own, *fits], key=len)


def holds(condition: Condition, options: Mapping[str, Any]) -> bool:
    """Whether all options of a condition have such values."""
    return all(met(options[name], wanted) for name, wanted in condition.items())


def is_set(value: Any) -> bool:
    """Whether a switch is on, as a flag or a file gives it."""
    return str(value).lower() in ("true", "1", "yes", "y", "on", "t")


def with_published(
    published: Published, config_type: type, given: Mapping[str, Any], own: Mapping[str, Any]
) -> dict[str, Any]:
    """Defaults of a task beside the options given: its ``own``, or those published.

    Args:
        published: of the task.
        config_type: of the task.
        given: option -> value, as flags and files have it.
        own: the task's defaults without ``--published``.
    """
    known = configs.entries(config_type)
    if not is_set(given.get("published", False)):
        return dict(own)
    options = {name: entry.default for name, entry in known.items()} | dict(own)
    read = {name: known[name].read(value) for name, value in given.items() if name in known}
    options |= read
    options |= published.values(options) | read  # which those that are like another one follow
    return {**own, **published.values(options)}


def check_published(published: Published | None, config: Any) -> None:
    """Refuse ``--published`` where nothing was.

    Raises:
        UsageError: the task, or what is chosen of it, is of no published experiment.
    """
    if not getattr(config.run, "published", False):
        return
    if published is None:
        raise UsageError("--published: no published experiment is known of this task")
    if not holds(published.only, configs.flat(config)):
        raise UsageError(
            f"--published: published experiments are those with {show_conditions([published.only])}"
        )


def line(published: Published | None, config: Any) -> str:
    """What the first line of a run says of it; empty where nothing was published."""
    if published is None or not holds(published.only, configs.flat(config)):
        return ""
    n = len(published.differing(config))
    if not n:
        return "settings as published"
    said = "setting differs" if n == 1 else "settings differ"
    return f"{n} {said} from the published experiment (--published; docs/fidelity.md)"
