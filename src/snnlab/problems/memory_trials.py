"""Trials of working memory: store-recall, delayed XOR, copy. Their inputs are populations.

Each population has ``n_group`` inputs, which fire at ``rate`` Hz while it is on and at
``background`` Hz always; which ones are on is drawn for each trial, inside the compiled program.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from snnlab.data.periods import Period

if TYPE_CHECKING:
    import jax

    from snnlab.data.trials import Trials


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemoryTask:
    """What the tasks share.

    Args:
        symbol: steps of a symbol, a cue, a command or an answer.
        n_group: inputs of each population.
        rate, background: Hz.
        dt_ms: length of a step.
    """

    symbol: int
    n_group: int = 10
    rate: float = 200.0
    background: float = 5.0
    dt_ms: float = 1.0

    @property
    def groups(self) -> tuple[str, ...]:
        """Populations of inputs, in order."""
        raise NotImplementedError

    @property
    def classes(self) -> tuple[str, ...]:
        """Answers."""
        return ("0", "1")

    @property
    def periods(self) -> tuple[Period, ...]:
        raise NotImplementedError

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """Steps in which there may be an answer; more than one: each has its label."""
        raise NotImplementedError

    @property
    def n_in(self) -> int:
        return self.n_group * len(self.groups)

    def draw(self, key: jax.Array, batch_size: int) -> Trials:
        raise NotImplementedError

    def probability(self, on: jax.Array) -> jax.Array:
        """Of a spike in a step, ``(n_levels, B, n_in)``, of populations ``(n_levels, B, g)``."""
        import jax.numpy as jnp

        hz = self.background + self.rate * jnp.repeat(on, self.n_group, axis=-1)
        return hz * (self.dt_ms / 1000.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoreRecall(MemoryTask):
    """A stream of bits, of which some are to be stored, and recalled later.

    In every symbol one of two populations says a random bit. A command may come with it: with
    probability ``command_prob``, *store* if no bit is stored, else *recall*, which takes the place
    of the bit; the answer is then the bit that came with the last store, and none is stored any
    more. Nothing is asked in other symbols. In a trial where that leaves no recall, the last symbol
    is one, and the first a store.

    Source: Bellec et al. 2018 (NeurIPS 31, "Long short-term memory and learning-to-learn in
    networks of spiking neurons"), store-recall; 2020 (Nat. Commun. 11:3625). Departures: symbols
    are short, trials have a fixed number of them, and one recall at least.

    Args:
        n_symbol: symbols of a trial, at least 2.
        command_prob: see above.
    """

    n_symbol: int = 10
    command_prob: float = 0.2

    @property
    def groups(self) -> tuple[str, ...]:
        return ("0", "1", "store", "recall")

    @property
    def periods(self) -> tuple[Period, ...]:
        return tuple(Period(f"symbol {k + 1}", self.symbol, k) for k in range(self.n_symbol))

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        return tuple((k * self.symbol, (k + 1) * self.symbol) for k in range(1, self.n_symbol))

    def draw(self, key: jax.Array, batch_size: int) -> Trials:
        import jax
        import jax.numpy as jnp

        from snnlab.data.answers import UNASKED, Answers
        from snnlab.data.trials import Trials

        of_bits, of_commands = jax.random.split(key)
        shape = self.n_symbol, batch_size
        bits = jax.random.bernoulli(of_bits, 0.5, shape)
        drawn = jax.random.bernoulli(of_commands, self.command_prob, shape)
        few = drawn.sum(0) < 2
        ends = jnp.zeros(self.n_symbol, bool).at[jnp.array([0, -1])].set(True)
        commands = jnp.where(few, ends[:, None], drawn)
        even = jnp.cumsum(commands, axis=0) % 2 == 0  # every other command is a recall
        store, recall = commands & ~even, commands & even

        # Of each symbol, the latest store so far; that of a recall is in the past.
        latest = jax.lax.cummax(jnp.where(store, jnp.arange(self.n_symbol)[:, None], 0), axis=0)
        stored = jnp.take_along_axis(bits, latest, axis=0)
        shown = ~recall
        on = jnp.stack([shown & ~bits, shown & bits, store, recall], axis=-1)
        labels = jnp.where(recall, stored.astype(jnp.int32), UNASKED)[1:].T
        conditions = {"bits": bits.T, "store": store.T, "recall": recall.T}
        return Trials(self.probability(on), Answers(labels, self.spans), conditions)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DelayedXOR(MemoryTask):
    """Two cues, each with a delay behind it, then a go cue: was one of them, not both, a 1?

    A cue is one of two populations, the same two for both cues. The answer, during the go cue, is
    their exclusive or: no sum of the two says it.

    Args:
        delay: steps between the cues, and between the second one and the go cue.
    """

    delay: int = 70

    @property
    def groups(self) -> tuple[str, ...]:
        return ("0", "1", "go")

    @property
    def periods(self) -> tuple[Period, ...]:
        return (
            Period("cue 1", self.symbol, 1), Period("delay 1", self.delay, 0),
            Period("cue 2", self.symbol, 2), Period("delay 2", self.delay, 0),
            Period("go", self.symbol, 3),
        )  # fmt: skip

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        start = 2 * (self.symbol + self.delay)
        return ((start, start + self.symbol),)

    def draw(self, key: jax.Array, batch_size: int) -> Trials:
        import jax
        import jax.numpy as jnp

        from snnlab.data.trials import Trials

        cues = jax.random.bernoulli(key, 0.5, (2, batch_size))
        silent = jnp.zeros((4, batch_size), bool)
        one = silent.at[1:3].set(cues)
        zero = silent.at[1:3].set(~cues)
        on = jnp.stack([zero, one, silent.at[3].set(True)], axis=-1)
        labels = (cues[0] ^ cues[1]).astype(jnp.int32)
        return Trials(self.probability(on), labels, {"cues": cues.T})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Copy(MemoryTask):
    """Symbols, a delay, then as many answers: the symbols in their order.

    Each of ``n_kind`` populations is a symbol; a trial has ``n_symbol`` of them, drawn
    independently. A go cue is on while they are to be told, each for as long as it was shown.

    Source: the copying task of Hochreiter & Schmidhuber 1997 and Arjovsky et al. 2016 ("Unitary
    evolution recurrent neural networks", ICML), with spikes for symbols, and the go cue on during
    all answers.

    Args:
        n_symbol: symbols of a trial.
        n_kind: different ones.
        delay: steps between the last symbol and the go cue.
    """

    n_symbol: int = 3
    n_kind: int = 4
    delay: int = 20

    @property
    def groups(self) -> tuple[str, ...]:
        return (*self.classes, "go")

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(str(k) for k in range(self.n_kind))

    @property
    def periods(self) -> tuple[Period, ...]:
        n = self.n_symbol
        return (
            *(Period(f"symbol {k + 1}", self.symbol, k) for k in range(n)),
            Period("delay", self.delay, n),
            *(Period(f"answer {k + 1}", self.symbol, n + 1) for k in range(n)),
        )

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        start, size = self.n_symbol * self.symbol + self.delay, self.symbol
        return tuple((start + k * size, start + (k + 1) * size) for k in range(self.n_symbol))

    def draw(self, key: jax.Array, batch_size: int) -> Trials:
        import jax
        import jax.numpy as jnp

        from snnlab.data.answers import Answers
        from snnlab.data.trials import Trials

        n, kinds = self.n_symbol, self.n_kind
        symbols = jax.random.randint(key, (batch_size, n), 0, kinds)
        on = jnp.zeros((n + 2, batch_size, kinds + 1), bool)
        on = on.at[:n, :, :kinds].set(jax.nn.one_hot(symbols.T, kinds, dtype=bool))
        on = on.at[n + 1, :, kinds].set(True)
        return Trials(self.probability(on), Answers(symbols, self.spans), {"symbols": symbols})
