"""``--distributed``: one run of several processes, each of which has its share of every batch.

Every process runs the same program: it makes the same network, takes the same steps, and comes to
the same decisions, since what it decides by (sums over a batch) is the same number everywhere.
What may differ is agreed on here: whether all were asked the same, whether a signal stops them, and
how far they go then. Process 0 alone writes the run folder; see :func:`leads`.

Without ``--distributed`` there is one process, and everything here is trivial.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from snnlab import interrupts
from snnlab.errors import UsageError, one_line, out_of_memory, shown
from snnlab.rendezvous import GRACE_S, Company, Refused

#: Seconds that processes wait for each other at the start: a cluster starts them one by one.
WAIT_S = 300.0
#: Exit code of a process that ends because another one did.
LOST = 3
#: What the flag alone means.
AUTO = "auto"
_USE = (
    "HOST:PORT,N,I: where process 0 listens, the number of processes, and which this one is, from "
    "0 to N - 1"
)


class Place(NamedTuple):
    """Of this process: where process 0 listens, how many there are, which this one is."""

    host: str
    port: int
    of: int
    number: int


class Agreed(UsageError):
    """An error that every process raises."""


_company: Company | None = None


def place_of(text: str) -> Place | None:
    """``HOST:PORT,N,I`` read; ``None`` for ``auto``, and for nothing.

    Raises:
        ValueError: neither.
    """
    if text in ("", AUTO):
        return None
    address, *numbers = text.replace(" ", "").split(",")
    host, colon, port = address.rpartition(":")
    digits = [port, *numbers]
    wrong = not host or not colon or len(numbers) != 2
    if wrong or not all(d.isdecimal() and len(d) < 6 for d in digits):
        raise ValueError(f"--distributed {shown(text)}: must be {_USE}; or no value in a cluster")
    count, index = int(numbers[0]), int(numbers[1])
    if not 0 < int(port) < 65536 or count < 1:
        raise ValueError(f"--distributed {shown(text)}: a port is 1 to 65535, and N 1 or more")
    if index >= count:
        raise ValueError(
            f"--distributed {shown(text)}: of {count} processes the last one has I = {count - 1}"
        )
    return Place(host.strip("[]"), int(port), count, index)


# -- what the other modules ask


def count() -> int:
    """Processes of this run."""
    return 1 if _company is None else _company.count


def index() -> int:
    """Which of them this one is."""
    return 0 if _company is None else _company.index


def leads() -> bool:
    """Whether this is process 0, which writes the run folder and talks to the user."""
    return index() == 0


def gathered(value: Any) -> list[Any]:
    """What every process gives (JSON-able), by index; all must ask, in the same order."""
    return [value] if _company is None else _company.gathered(value)


def shared(value: Any) -> Any:
    """What process 0 gives."""
    return gathered(value)[0]


def agree(facts: Mapping[str, str]) -> None:
    """Go on only if these are the same in all processes.

    Raises:
        UsageError: in every process: what differs.
    """
    mine, *others = gathered(dict(facts))
    for number, theirs in enumerate(others, start=1):
        for name in {**mine, **theirs}:
            if mine.get(name) != theirs.get(name):
                raise Agreed(
                    f"--distributed: {name} is {shown(theirs.get(name))} in process {number} and "
                    f"{shown(mine.get(name))} in process 0; it must be the same in all"
                )


def step() -> None:
    """Say that a batch is next, which all processes compute together."""
    if _company is not None:
        _company.step()


def stopping() -> int:
    """The signal at which training stops after this batch, in all processes; 0 for none."""
    signum = interrupts.came()
    return signum if _company is None else _company.stopping(signum)


def check() -> None:
    """Raise :class:`~snnlab.interrupts.Interrupted` where all processes do."""
    if _company is None:
        interrupts.check()
        return
    signum = stopping()
    if signum:
        raise interrupts.Interrupted(signum)


# -- coming together


@contextlib.contextmanager
def joined(asked: str, facts: Mapping[str, str]) -> Iterator[None]:
    """Meet the other processes, if there are any; inside, their end is the end of this one.

    Args:
        asked: ``--distributed``.
        facts: what must be the same in all, such as options and versions.

    Raises:
        UsageError: they did not come, or were asked something else.
    """
    global _company
    if not asked:
        yield
        return
    if _company is not None:
        raise UsageError("--distributed: this process belongs to a distributed run already")
    host, port, n, number = place_of(asked) or _detected()
    company = Company(number, n, host, port, lambda *end: _lost(number, n, *end))
    try:
        company.meet(WAIT_S)
    except Refused as error:
        company.close()
        raise UsageError(f"--distributed: {error}") from None
    _company = company
    try:
        agree(facts)
        yield
        company.gathered("done")
        _stop_jax()
        company.gathered("left")
        company.leave(None)
        company.close()
        _company = None
    except BaseException as error:
        _await_news(error)
        why, code = _ending(company, error)
        company.leave(why)
        atexit.register(_exit, code)  # JAX would wait for the others when the interpreter ends
        raise


def _ending(company: Company, error: BaseException) -> tuple[str | None, int]:
    """What the others are told of its end (nothing if they come to the same), and exit code."""
    if isinstance(error, Agreed):
        return None, 2
    if isinstance(error, interrupts.Interrupted):
        return None if company.leaving else error.line, error.exit_code
    if isinstance(error, UsageError):
        return shown(error, 300), 2
    memory = out_of_memory(error)
    return memory or f"{type(error).__name__}: {shown(error, 200)}", 2 if memory else 1


@contextlib.contextmanager
def awaiting_news() -> Iterator[None]:
    """Where an error is often the first sign of another process's end: wait for news of that."""
    try:
        yield
    except Exception as error:
        _await_news(error)
        raise


def _await_news(error: BaseException) -> None:
    """Of a process's end, which then ends this one: a collective operation has failed before."""
    known = not isinstance(error, Exception) or isinstance(error, UsageError)
    if _company is not None and not known and not getattr(error, "_snnlab_waited", False):
        time.sleep(GRACE_S + 1)
        error._snnlab_waited = True  # type: ignore[attr-defined]


def start_jax() -> None:
    """Let JAX know of the other processes; before it looks for devices."""
    if _company is None:
        return
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # signals are ours
    local = f"127.0.0.1:{_company.jax_port}"
    jax.distributed.initialize(
        local, _company.count, _company.index, local_device_ids=_local_devices,
        cluster_detection_method="deactivate", coordinator_bind_address=local,
        initialization_timeout=int(WAIT_S), heartbeat_timeout_seconds=10**6,
    )  # fmt: skip


def _stop_jax() -> None:
    import jax

    if jax.distributed.is_initialized():
        jax.distributed.shutdown()


_local_devices: list[int] | None = None


def _detected() -> Place:
    """What the cluster says: SLURM, Open MPI, Cloud TPU, Kubernetes, as JAX reads them.

    Raises:
        UsageError: there is none.
    """
    global _local_devices
    from jax._src.clusters import ClusterEnv

    detect = ClusterEnv.auto_detect_unset_distributed_params
    try:
        address, n, number, local = detect(None, None, None, None, None, int(WAIT_S))
    except Exception as error:  # noqa: BLE001 (whatever a cluster's own interface raises)
        raise UsageError(
            f"--distributed: the cluster does not say enough ({one_line(str(error))[:150]}); give "
            f"{_USE}"
        ) from None
    if address is None or n is None or number is None:
        raise UsageError(
            "--distributed: no cluster (SLURM, Open MPI, Cloud TPU, Kubernetes) is known here; "
            f"give {_USE}"
        )
    _local_devices = None if local is None else list(local)
    host, _, port = address.rpartition(":")
    return Place(host.strip("[]"), int(port), n, number)


def _lost(me: int, n: int, number: int, why: str) -> None:
    """Another process has ended: so does this one, wherever its main thread is."""
    how = f" ({why})" if why else " without a word"
    interrupts.end(
        f"error: process {number} of {n} ended{how}, so this one, process {me}, ends; what was "
        "saved before is kept",
        LOST,
    )


def _exit(code: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
