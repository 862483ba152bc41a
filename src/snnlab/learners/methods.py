"""The learning rules by name: a line here and a file in :mod:`snnlab.learners.rules` make one.

A user's package joins with an entry point of the group ``snnlab.rules``, a :class:`Method`.
"""

from __future__ import annotations

from typing import NamedTuple

from snnlab.registry import Registry

_RULES = "snnlab.learners.rules"


class Method(NamedTuple):
    """A rule, as the command line knows it.

    Attributes:
        summary: for ``--help``.
        aliases: other names of it.
        has: what it has: ``online``, it goes forward with the sequence; ``chunks`` of our own, and
            memory for them; ``traces``, one for each weight; ``windows``, ``--vjp_method
            multi-step``; ``decay``, ``--etrace_decay``; ``feedback``, ``--feedback``.
        libraries: backends beside ours.
        make: ``"module:function"``, from a :class:`~snnlab.learners.rules.build.Request` to a
            learner; without it ``make`` in the file of the name in :mod:`snnlab.learners.rules`.
    """

    summary: str
    aliases: tuple[str, ...] = ()
    has: str = "online chunks"
    libraries: tuple[str, ...] = ()
    make: str = ""

    def maker(self, name: str) -> str:
        """``make`` of the rule that is called so."""
        return self.make or f"{_RULES}.{name.replace('-', '_')}:make"


#: Backends that are the online rules of other libraries.
LIBRARIES = ("braintrace", "brainscale")
_SNAP = f"{_RULES}.snap:make"
TRACES, BOTH = "online chunks traces", LIBRARIES
SMOOTH = "online chunks windows decay"
METHODS: Registry[Method] = Registry("method", "snnlab.rules", Method, {
    "bptt": Method("backpropagation through time", has=""),
    "diag": Method("D-RTRL", ("d-rtrl", "drtrl"), f"{TRACES} windows", BOTH),
    "expsm_diag": Method("ES-D-RTRL", ("es-d-rtrl", "esd-rtrl", "pp-prop"), SMOOTH, BOTH),
    "tbptt": Method("truncated BPTT, windows of --chunk_size steps", has="chunks"),
    "eprop": Method("filtered traces and feedback", ("e-prop",), f"{TRACES} feedback"),
    "rflo": Method("random feedback local online learning", has=f"{TRACES} feedback"),
    "decolle": Method("a local readout for each layer", has=TRACES),
    "ottt": Method("online training through time", has="online chunks decay"),
    "otpe": Method("OTTT with postsynaptic estimates", has=f"{TRACES} decay"),
    "ostl": Method("OSTL, for small networks"),
    "ostl-without-h": Method(
        "OSTL without a layer's recurrence", has=TRACES, make=f"{_RULES}.ostl:make"
    ),
    "snap-1": Method("SnAp-1: D-RTRL and own synapses", (), TRACES, BOTH[:1], _SNAP),
    "snap-2": Method("SnAp-2, for small networks", libraries=BOTH[:1], make=_SNAP),
    "uoro": Method("unbiased online recurrent optimization, for small networks", has="online"),
    "rtrl": Method("exact real-time recurrent learning, for small networks", has="online"),
    "immediate": Method("no trace: the control"),
    "hybrid": Method(
        "D-RTRL for maps of few weights, ES-D-RTRL for others", (), f"{SMOOTH} traces", BOTH
    ),
})  # fmt: skip


def canonical(name: object) -> str:
    """The name of a rule from one of its aliases; anything else as it is.

    >>> canonical("D-RTRL"), canonical("pp_prop"), canonical("none of them")
    ('diag', 'expsm_diag', 'none of them')
    """
    wanted = str(name).lower().replace("_", "-")
    for method, about in METHODS.items():
        if wanted in (method.replace("_", "-"), *about.aliases):
            return method
    return str(name)


def having(what: str) -> tuple[str, ...]:
    """Names of the rules that have it.

    >>> having("decay")
    ('expsm_diag', 'ottt', 'otpe', 'hybrid')
    """
    return tuple(name for name, about in METHODS.items() if what in about.has.split())
