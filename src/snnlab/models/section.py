"""The one section of a config that describes a network: all models' options, each with its models.

An option is declared where its equations are, or shared (:mod:`snnlab.models.options`); for which
models it counts follows from which of them read it.
"""

from __future__ import annotations

import copy
import dataclasses
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import pydantic

from snnlab.config import CommaText, entries, option, section
from snnlab.errors import UsageError, shown
from snnlab.models import options as of
from snnlab.models.registry import MODELS, READOUTS, Model
from snnlab.options import Condition, without_void


def of_earlier(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a saved run in today's meaning.

    Before ``--published``, a spike took A1 away, and a moving threshold acted on spikes alone.
    """
    if "published" in saved:
        return dict(saved)
    jump = {"A1": -saved["A1"]} if "A1" in saved else {}
    return {**saved, **jump, **({"Ath_acts": "spikes"} if saved.get("Ath") else {})}


#: Earlier names of what ``--trainable`` may name.
EARLIER = {"tau_neu": "tau_mem", "theta": "V_th"}


class ModelSection:
    """What the sections of models have in common; made by :func:`model_section`."""

    readout: ClassVar[str] = "leaky"
    #: Where a section has no such option.
    dt: Any = 1.0
    reads: Any = "spikes"
    auto_encoder: Any = False

    if TYPE_CHECKING:

        def __init__(self, **options: Any) -> None: ...

        def __getattr__(self, name: str) -> Any: ...

    @property
    def kind(self) -> Model:
        return MODELS.get(self.model)

    @property
    def trained(self) -> tuple[str, ...]:
        """Names of ``trainable``, each once.

        Raises:
            ValueError: one of which the model has nothing.
        """
        needs = dict(self.kind.trains)
        if self.is_spiking and not self.kind.network:
            for kind in READOUTS[self.readout].options:
                needs |= kind.trains
        off = dict.fromkeys(o for n in needs.values() for o in n if not getattr(self, o))
        there = [name for name, n in needs.items() if not set(n) & set(off)]
        text = str(self.trainable).strip("[]() ").replace(" ", ",")
        given = {EARLIER.get(n, n): n for n in map(str.strip, text.split(",")) if n}
        for name in sorted(given):
            if name not in there:
                where = " with ".join([f"--model {self.model}", *(f"--{n} 0" for n in off)])
                raise ValueError(
                    f"--trainable {shown(given[name])}: no such choice with {where}; valid: "
                    f"{', '.join(there)}"
                )
        return tuple(name for name in there if name in given)

    @property
    def trains_bias(self) -> bool:
        """Whether the layers have trained biases."""
        return not {"bias", "map_bias"}.isdisjoint(self.trained)

    @property
    def is_spiking(self) -> bool:
        return self.kind.spiking

    @property
    def outputs(self) -> int:
        """Outputs of a layer."""
        return int(self.n_rec * (1 + self.bidirectional))

    @property
    def needs_sequences(self) -> bool:
        """Whether the network runs layer after layer over whole sequences only."""
        levels = self.quantize_adc and self.quantize_as == "affine"
        return bool(self.bidirectional or self.normalization == "batchnorm" or levels)

    @property
    def trains_time_constants(self) -> tuple[str, ...]:
        """Flags by which trained time constants of described neurons are fixed."""
        flags = []
        if of.Spiking in self.kind.options and not self.fix_tau_rec:
            flags.append("fix_tau_rec")
        if self.readout == "summed" and self.is_spiking and not self.fix_tau_out:
            flags.append("fix_tau_out")
        return tuple(flags)

    def format_of(self, flag: str) -> of.FixedPoint | None:
        """The format of ``quantize`` or ``quantize_adc``, if given.

        Raises:
            ValueError: it is none.
        """
        text = getattr(self, flag)
        return of.FixedPoint(text, flag) if text else None

    @property
    def kept(self) -> dict[str, str]:
        """Options that name a file which a run folder keeps, and the name of the copy there."""
        return {name: copy for kind in self.kind.options for name, copy in kind.kept.items()}

    def in_force(self) -> Any:
        """The section with the default for every option that has no effect."""
        kind = type(self)
        known = entries(dataclasses.make_dataclass("Alone", [("model", kind)]))
        return without_void({"model": self}, known)["model"]

    def _check(self) -> None:
        _ = self.trained
        readout = READOUTS[self.readout]
        of_spiking = readout.of_spiking if self.is_spiking else ()
        for kind in (*self.kind.options, *readout.options, *of_spiking):
            kind.check(self)


def model_section(
    default: str, *, readout: str = "leaky", **defaults: Any
) -> Callable[[type], type]:
    """Class decorator: a section with all models' options, each for the models that declare it.

    Args:
        default: the model.
        readout: name in :data:`READOUTS`.
        defaults: a task's own, with any model; those of ``default`` are the section's own too.

    Raises:
        UsageError: two models declare an option differently (that of another package).
    """

    def wrap(cls: type) -> type:
        found: dict[str, tuple[Any, Any]] = {}  # option -> annotation, declaration
        models: dict[str, list[str]] = {}

        def take(kinds: Iterable[type[of.Options]], names: Iterable[str], who: str) -> None:
            for kind in kinds:
                for name, hint in typing.get_type_hints(kind).items():
                    if name in ("trains", "kept"):
                        continue
                    declared = getattr(kind, name)
                    if found.setdefault(name, (hint, declared))[1] is not declared:
                        raise UsageError(f"{who}: another option is called '{name}' already")
                    models.setdefault(name, []).extend(n for n in names if n not in models[name])

        models_of = _models_of(readout)
        layered = [name for name, model in models_of.items() if not model.network]
        take([of.Size], layered, "size")
        for name, model in models_of.items():
            take(model.options, [name], f"model {name}")
        kind = READOUTS[readout]
        take(kind.options, layered, f"readout {readout}")
        spiking = [name for name in layered if models_of[name].spiking]
        take(kind.of_spiking, spiking, f"readout {readout}")
        values = {**MODELS.get(default).defaults, **defaults}
        space: dict[str, Any] = {
            "model": _model_option(default, models_of), "trainable": _trainable(readout)
        }  # fmt: skip
        hints: dict[str, Any] = {"model": Literal[tuple(models_of)], "trainable": CommaText}
        only: dict[str, Any] = {}
        for name, (hint, declared) in found.items():
            info = copy.copy(declared)
            if name in values:
                info.default = values[name]
                info._attributes_set = {**info._attributes_set, "default": values[name]}
            space[name], hints[name] = info, hint
            own: tuple[Condition, ...] = info.json_schema_extra["only"]
            if len(models[name]) < len(models_of):
                condition = {"model": tuple(models[name])}
                only[name] = [condition | dict(other) for other in own] or condition
        names = {"__annotations__": hints, "__doc__": cls.__doc__, "__module__": cls.__module__}
        names["readout"] = readout
        names["task_defaults"] = dict(defaults)

        @pydantic.model_validator(mode="after")
        def _consistent(self: Any) -> Any:
            self._check()
            return self

        made = type(cls.__name__, (cls,), {**names, **space, "_consistent": _consistent})
        made.__qualname__ = cls.__qualname__
        return section("Model", only=only)(made)

    return wrap


def _models_of(readout: str) -> dict[str, Model]:
    """The models of sections with this kind of readout."""
    every = {name: MODELS.get(name) for name in MODELS.names()}
    return {k: v for k, v in every.items() if not v.readouts or readout in v.readouts}


def _model_option(default: str, models: Mapping[str, Model]) -> Any:
    lines = "; ".join(f"{name}: {model.summary}" for name, model in models.items())
    return option(basic=True, default=default, help=f"layer model: {lines}")


def _trainable(readout: str) -> Any:
    names = dict.fromkeys(n for name in MODELS.names() for n in MODELS.get(name).trains)
    for kind in READOUTS[readout].options:
        names |= dict.fromkeys(kind.trains)
    return option(
        default="",
        help="comma list of what is trained beside the weights, with a value for each neuron: "
        f"{', '.join(names)} (of those that the model has); time constants, thresholds and "
        "strengths start where they are without it and keep their sign, biases (map_bias: of the "
        "layers; bias: the readout's too) start at 0",
    )


def model_defaults(section_type: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults of the model that ``values`` names, where they differ from the section's own.

    Args:
        section_type: made by :func:`model_section`.
        values: options that are given.
    """
    fields = section_type.__pydantic_fields__  # type: ignore[attr-defined]
    own = fields["model"].default
    name = values.get("model", own)
    if name == own or name not in MODELS.names():
        return {}
    model, found = MODELS.get(name), dict[str, Any]()
    for option_name in {**MODELS.get(own).defaults, **model.defaults}:
        if option_name in section_type.task_defaults:  # type: ignore[attr-defined]
            continue
        general = next(
            (getattr(k, option_name) for k in (of.Size, *model.options) if hasattr(k, option_name)),
            None,
        )
        if general is not None:
            found[option_name] = model.defaults.get(option_name, general.default)
    return found
