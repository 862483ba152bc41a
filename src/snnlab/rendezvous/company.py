"""A process among the others of its run: see :mod:`snnlab.rendezvous`."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

from snnlab.rendezvous.sockets import DEAD_S, LONGEST, LOOPBACK, free_port, line_of, probe, pump

#: Changes when messages do.
PROTOCOL = 1
#: Seconds that a process which failed by itself leaves to the others to come to the same end.
GRACE_S = 5.0


class Refused(Exception):
    """The processes cannot come together; the message is one line."""


class Company:
    """This process among the others.

    Args:
        index: of this process.
        count: of processes.
        host, port: where process 0 listens.
        lost: told that a process ended, and why if it said so, once; it ends this process.
    """

    def __init__(
        self, index: int, count: int, host: str, port: int, lost: Callable[[int, str], None]
    ) -> None:
        self.index, self.count, self.host, self.port = index, count, host, port
        self.leaving = False
        #: Port of this machine by which this process's JAX reaches the coordinator.
        self.jax_port = 0
        self._lost = lost
        self._loop = asyncio.new_event_loop()
        self._writers: dict[int, asyncio.StreamWriter] = {}
        self._present = threading.Event()
        self._gathers: dict[int, dict[int, Any]] = {}
        self._answers: dict[int, concurrent.futures.Future[list[Any]]] = {}
        self._n_gathers = 0
        self._said_bye: set[int] = set()
        # Stopping at the same step: see `stopping`.
        self._gate = threading.Lock()
        self._steps = 0
        self._counts: dict[int, int] | None = None
        self._frozen = self._noticed = False
        self._stop: tuple[int, int] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._open_ends: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    # -- coming together

    def meet(self, wait_s: float) -> None:
        """Wait for all processes.

        Raises:
            Refused: not all came within ``wait_s`` seconds, or they do not belong together.
        """
        if self.index == 0:
            self._call(self._listen())
            if not self._present.wait(wait_s):
                there = {0, *self._writers}
                missing = next(i for i in range(self.count) if i not in there)
                raise Refused(
                    f"process {missing} of {self.count} did not come to {self.host}:{self.port} "
                    f"within {wait_s:g} s"
                )
        else:
            self._call(self._connect(wait_s))

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _listen(self) -> None:
        try:
            here = self.host if self.host in LOOPBACK else None
            self._server = await asyncio.start_server(
                lambda *ends: self._keep(self._accept(*ends)), here, self.port, limit=LONGEST
            )
        except OSError as error:
            raise Refused(
                f"process 0 cannot listen at port {self.port}: {os.strerror(error.errno or 0)}"
            ) from None
        self.jax_port = free_port()  # JAX's coordinator, on this machine alone
        if self.count == 1:
            self._present.set()

    async def _connect(self, wait_s: float) -> None:
        last = time.monotonic() + wait_s
        while True:
            try:
                reader, writer = await self._open("member")
                break
            except OSError:
                if time.monotonic() > last:
                    raise Refused(
                        f"process {self.index} of {self.count} found no process 0 at {self.host}:"
                        f"{self.port} within {wait_s:g} s"
                    ) from None
                await asyncio.sleep(0.1)
        self._writers[0] = writer
        try:
            line = await asyncio.wait_for(reader.readline(), max(last - time.monotonic(), 1))
            answer = json.loads(line) if line else {"refused": "process 0 ended before all came"}
        except TimeoutError:
            answer = {"refused": f"not all of {self.count} processes came within {wait_s:g} s"}
        except (OSError, ValueError):
            answer = {"refused": f"what listens at {self.host}:{self.port} is no process of a run"}
        if "refused" in answer:
            raise Refused(str(answer["refused"]))
        self._server = await asyncio.start_server(
            lambda *ends: self._keep(self._relay_out(*ends)), "127.0.0.1", 0
        )
        self.jax_port = self._server.sockets[0].getsockname()[1]
        self._keep(self._read(0, reader))

    async def _open(self, kind: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(self.host, self.port, limit=LONGEST)
        probe(writer)
        self._open_ends.append(writer)
        hello = {"snnlab": PROTOCOL, "kind": kind, "index": self.index, "count": self.count}
        writer.write(line_of(hello))
        return reader, writer

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Process 0: somebody connects."""
        self._open_ends.append(writer)
        try:
            hello = json.loads(await asyncio.wait_for(reader.readline(), DEAD_S))
            kind, index, count = hello["kind"], int(hello["index"]), int(hello["count"])
            same = hello["snnlab"] == PROTOCOL
        except (OSError, TimeoutError, ValueError, KeyError, TypeError):  # no process of ours
            writer.close()
            return
        probe(writer)
        if kind == "jax":
            await self._relay(reader, writer, self.jax_port)
            return
        problem = ""
        if not same:
            problem = "the processes run different versions of snnlab"
        elif count != self.count:
            problem = f"process {index} was told of {count} processes, process 0 of {self.count}"
        elif not 0 < index < count or index in self._writers:
            problem = f"two processes have the index {index}"
        if problem:
            writer.write(line_of({"refused": problem}))
            await writer.drain()
            writer.close()
            return
        self._writers[index] = writer
        if len(self._writers) == self.count - 1:
            for other in self._writers.values():
                other.write(line_of({"welcome": True}))
            self._present.set()
        await self._read(index, reader)

    # -- JAX's connection

    async def _relay_out(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """From this process's JAX to process 0. Its end here stays open if that one breaks."""
        self._open_ends.append(writer)
        try:
            there, out = await self._open("jax")
        except OSError:
            return
        self._keep(pump(there, writer, close=False))
        await pump(reader, out, close=True)

    async def _relay(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int
    ) -> None:
        """Process 0: from another process's JAX to the coordinator."""
        for _ in range(600):
            try:
                there, out = await asyncio.open_connection("127.0.0.1", port)
                self._open_ends.append(out)
                break
            except OSError:  # it starts with JAX
                await asyncio.sleep(0.1)
        else:
            return
        self._keep(pump(there, writer, close=True))
        await pump(reader, out, close=True)

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- messages

    async def _read(self, index: int, reader: asyncio.StreamReader) -> None:
        """Take the messages of process ``index`` until it ends."""
        with contextlib.suppress(OSError, ValueError, asyncio.IncompleteReadError):
            while line := await reader.readline():
                message = json.loads(line)
                if self.index == 0:
                    self._as_hub(index, message)
                else:
                    self._take(message)
        if index not in self._said_bye:
            self._as_hub(index, {"ended": index, "why": ""})

    def _send(self, message: dict[str, Any]) -> None:
        """To process 0, which may be this one; from any thread."""
        self._loop.call_soon_threadsafe(self._sent, message)

    def _sent(self, message: dict[str, Any]) -> None:
        if self.index == 0:
            self._as_hub(0, message)
        elif 0 in self._writers:
            self._writers[0].write(line_of(message))

    def _tell_all(self, message: dict[str, Any]) -> None:
        if self.index == 0:
            for writer in self._writers.values():
                with contextlib.suppress(OSError, RuntimeError):
                    writer.write(line_of(message))
        self._take(message)

    def _as_hub(self, index: int, message: dict[str, Any]) -> None:
        """Process 0: a message of process ``index``. In others: that process 0 has ended."""
        if "gather" in message:
            number = message["gather"]
            values = self._gathers.setdefault(number, {})
            values[index] = message["value"]
            if len(values) == self.count:
                all_values = [values[i] for i in range(self.count)]
                del self._gathers[number]
                self._tell_all({"all": number, "values": all_values})
        elif "notice" in message:
            if self._counts is None:
                self._counts = {}
                self._tell_all({"freeze": message["notice"]})
        elif "steps" in message:
            assert self._counts is not None
            self._counts[index] = message["steps"]
            if len(self._counts) == self.count:
                last = max(self._counts.values()) + 1
                self._tell_all({"stop": [last, message["signum"]]})
        elif "bye" in message:
            self._said_bye.add(index)
            if index == 0 or message["bye"]:
                self._tell_all({"ended": index, "why": message["bye"]})
        elif "ended" in message:
            self._said_bye.add(index)
            self._tell_all(message)

    def _take(self, message: dict[str, Any]) -> None:
        """What process 0 says to all."""
        if "all" in message:
            self._answers.pop(message["all"]).set_result(message["values"])
        elif "freeze" in message:
            self._gate.acquire()  # the main thread holds it for an addition
            self._frozen = True
            self._sent({"steps": self._steps, "signum": message["freeze"]})
        elif "stop" in message:
            last, signum = message["stop"]
            self._stop = last, signum
            if self._frozen:
                self._frozen = False
                self._gate.release()
        elif "ended" in message:
            index, why = message["ended"], message["why"]
            self._said_bye.add(index)
            if index == self.index or self.leaving or (index == 0 and why is None):
                return
            if why:  # the others may come to the same end
                self._loop.call_later(GRACE_S, self._end, index, why)
            else:
                self._end(index, why)

    def _end(self, index: int, why: str) -> None:
        if not self.leaving:
            self.leaving = True
            self._lost(index, why)

    # -- what the main thread asks

    def gathered(self, value: Any) -> list[Any]:
        """What every process gives, by its index; JSON. All must ask, in the same order."""
        answer: concurrent.futures.Future[list[Any]] = concurrent.futures.Future()
        number, self._n_gathers = self._n_gathers, self._n_gathers + 1
        self._answers[number] = answer
        self._send({"gather": number, "value": value})
        return answer.result()

    def step(self) -> None:
        """Count a step that all processes take together, before it begins."""
        with self._gate:
            self._steps += 1

    def stopping(self, signum: int) -> int:
        """The signal at which all processes stop after this step, or 0.

        A notice makes every process say how far it is, and wait before its next step until all
        have: they stop behind the step after the last one that any has begun. That costs nothing
        as long as no signal comes.

        Args:
            signum: a signal that came to this process; 0 for none.
        """
        if signum and not self._noticed:
            self._noticed = True
            self._send({"notice": signum})
        if self._stop is None or self._steps < self._stop[0]:
            return 0
        self.leaving = True
        return self._stop[1]

    def leave(self, why: str | None) -> None:
        """Say that this process ends, ``None`` if all do; what happens to others is theirs then."""
        self.leaving = True
        self._send({"bye": why})
        with contextlib.suppress(concurrent.futures.TimeoutError):
            asyncio.run_coroutine_threadsafe(self._drain(), self._loop).result(5)

    async def _drain(self) -> None:
        for writer in self._writers.values():
            with contextlib.suppress(OSError):
                await writer.drain()
        await asyncio.sleep(0.05)  # the system has it; it is sent even if this process ends

    def close(self) -> None:
        """Let go of all connections; nothing is heard any more."""
        self.leaving = True
        self._call(self._let_go())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _let_go(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._open_ends:
            writer.close()
        await asyncio.sleep(0)
        me = asyncio.current_task()
        left = [task for task in asyncio.all_tasks() if task is not me]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
