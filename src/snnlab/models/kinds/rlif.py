"""RLIF: recurrent LIF neurons, of which a balanced network is a special case.

A balanced layer has, with ``a0 = exp(-1 / (2000 R))`` and R repetitions of a step,

    theta = (nu + mu + diag(W W^T)) / 2 ,   V = -V_scale (W W^T + mu I) / (1 - a0)

and all its time constants at 2000 R at the start (``--tau_rec``: where they may go). Source:
Boerlin, Machens & Deneve 2013 with the input weights as decoders; Stadtmann, Paessens & Gemmeke
2024. Weights here are ``(n_in, n)``, the transpose of W above.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from snnlab.config import option
from snnlab.lazy import lazy
from snnlab.models.neuron import Value, decay
from snnlab.models.neurons.lif import LIF, Reset
from snnlab.models.options import RECURRENT, Options, TimeRange

if TYPE_CHECKING:
    import jax

    from snnlab.models.drawing import Draw
else:
    jax = lazy("jax")

jnp, np, spiking = map(lazy, ("jax.numpy", "numpy", "snnlab.models.spiking"))
#: Time constants of a balanced layer at the start, steps of input.
TAU_BALANCED = 2000.0
INPUT_SCALE, INPUT_SHARE = 0.001, 0.7


class Balance(Options):
    """Its own options."""

    reset: Literal["default", "voltage", "threshold"] = option(
        default="default",
        help="what a spike subtracts: 1 (nothing where V is fixed: its diagonal resets), the "
        "membrane, or the threshold",
    )
    tau_rec: str = option(
        default="1900,2100",
        help="range LOW,HIGH of the layers' time constants, in which they are drawn and stay; with "
        "--balance they begin at 2000. Published code until November 2024, with --repeat R: "
        "5/R,25/R without --balance, 200,20000 with it",
        unit="steps of the input, before --repeat",
        only=({"balance": (False,)}, {"fix_tau_rec": (False,)}),
    )
    w_in_init: Literal["bernoulli", "uniform"] = option(default="bernoulli", help="input weights")
    balance: bool = option(
        basic=True,
        default=False,
        help="thresholds, recurrent weights and time constants of a balanced network",
    )
    balance_refit: bool = option(
        default=False, help="after every epoch, thresholds and V anew from the weights"
    )
    mu: float = option(
        default=0.0, help="balance: quadratic cost of a spike", ge=0, only={"balance": "set"}
    )
    nu: float = option(
        default=0.0, help="balance: linear cost of a spike", ge=0, only={"balance": "set"}
    )
    V_scale: float = option(
        default=1.0, help="balance: factor of the recurrent weights", ge=0, only={"balance": "set"}
    )
    slow_dynamics: bool = option(default=False, help="fixed slow recurrent weights")
    V_slow_scale: float = option(
        default=1.0, help="factor of the slow weights", ge=0, only={"slow_dynamics": "set"}
    )

    @staticmethod
    def check(config: Any) -> None:
        if config.detach_reset and config.reset == "default" and config.fix_w_rec:
            raise ValueError(
                "--detach_reset with --fix_w_rec: there is no reset, unless --reset names one"
            )
        TimeRange(config.tau_rec, "tau_rec", TAU_BALANCED if config.balance else None)
        if not config.balance_refit:
            return
        if not config.balance:
            raise ValueError("--balance_refit needs --balance")
        if "V_th" in config.trained:
            raise ValueError(
                "--balance_refit with --trainable theta: a refit replaces what was trained"
            )
        if config.fix_w_in:
            raise ValueError(
                "--balance_refit with --fix_w_in: nothing is left to refit, since it follows "
                "the input weights as they are trained"
            )


RLIF = (*RECURRENT, Balance)


def balanced_threshold(w: jax.Array, mu: float, nu: float) -> jax.Array:
    """``(n,)`` thresholds for the input weights ``w (n_in, n)``."""
    return 0.5 * (nu + mu + (w * w).sum(0))


def balanced_recurrence(w: jax.Array, mu: float, scale: float, repeat: int) -> jax.Array:
    """``(n, n)`` recurrent weights for the input weights ``w (n_in, n)``."""
    gram = w.T @ w + mu * jnp.eye(w.shape[1])
    return -scale * gram / (1 - decay(TAU_BALANCED * repeat))


def rlif(draw: Draw, n_in: int) -> Any:
    """A layer; V has no diagonal where it is trained."""
    c, n, r = draw.config, draw.config.n_rec, draw.repeat
    if c.w_in_init == "bernoulli":
        bound = (1 - decay(TAU_BALANCED * r)) / INPUT_SCALE
        kept = jnp.asarray(draw.rng.random((n_in, n)) < INPUT_SHARE, jnp.float32)
        weight = kept * draw.uniform(-bound, bound, n_in, n)
    else:
        weight = draw.uniform(-((2 / n_in) ** 0.5), (2 / n_in) ** 0.5, n_in, n)
    recurrent = draw.orthogonal(n)
    slow = draw.orthogonal(n) * (c.V_slow_scale * (1 - np.eye(n)))
    resets: dict[str, Reset] = {
        "default": "none" if c.fix_w_rec else "one", "voltage": "voltage",
        "threshold": "threshold",
    }  # fmt: skip
    tau = TimeRange(c.tau_rec, "tau_rec")
    neuron = LIF((tau.low * r, tau.high * r), resets[c.reset])
    values = neuron.values(n, draw.rng)
    if c.balance:
        theta = np.asarray(balanced_threshold(weight, c.mu, c.nu))
        alpha = np.full(n, decay(TAU_BALANCED * r), np.float32)
        values = {"alpha": Value(alpha, values["alpha"].limits), "theta": Value(theta)}
        recurrent = balanced_recurrence(weight, c.mu, c.V_scale, r)
    mask = None if c.fix_w_rec else 1.0 - np.eye(n)
    return spiking.SpikingLayer(
        neuron, draw.input_map(weight, c.fix_w_in),
        draw.values(values, c.fix_tau_rec, renewed=c.balance_refit),
        v=draw.map(recurrent, c.fix_w_rec, mask, c.balance_refit),
        v_slow=slow if c.slow_dynamics else None, norm=draw.norm(n), single=c.single_spike,
        surrogate_of=c.surrogate_of, noise=draw.noise(), levels=draw.levels(), adc=draw.adc(),
        bias=c.trains_bias, detach_reset=c.detach_reset,
    )  # fmt: skip


def refit_program(
    config: Any, repeat: int = 1
) -> Callable[[dict[str, jax.Array]], dict[str, jax.Array]] | None:
    """Parameters -> parameters with thresholds and recurrent weights refitted, if it is asked for.

    The thresholds, and V where the input weights are trained, are those of the current input
    weights; a V that is trained too is half refitted: ``V = (V_balanced + V) / 2``, both in the
    units of V. Departure: the source mixes V in these units with ``W W^T + mu I`` itself, without
    sign and scale, which turns inhibition into excitation.
    """
    config = config.in_force()
    if not config.balance_refit:
        return None

    def refit(params: dict[str, jax.Array]) -> dict[str, jax.Array]:
        new = dict(params)
        for k in range(config.n_layer):
            name = f"layers.{k}.w.weight"
            if name not in params:
                continue
            w = params[name]
            wanted = balanced_recurrence(w, config.mu, config.V_scale, repeat)
            new[f"layers.{k}.value.theta.weight"] = balanced_threshold(w, config.mu, config.nu)
            if config.fix_w_rec:
                new[f"layers.{k}.v.held.weight"] = wanted
            else:
                name = f"layers.{k}.v.weight"
                mixed = 0.5 * (wanted + params[name])
                new[name] = mixed * (1 - jnp.eye(mixed.shape[0], dtype=mixed.dtype))
        return new

    return jax.jit(refit)
