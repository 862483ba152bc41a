"""Several processes of one run: meeting, agreeing, stopping together, and the end of one of them.

The processes need nothing but the modules; what they do with JAX is in ``test_distributed.py``.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time

import pytest

from snnlab import processes
from snnlab.errors import UsageError
from snnlab.processes import Place, place_of
from snnlab.rendezvous import Company, Refused, free_port

HEAD = """
import os, signal, sys, time
from snnlab import interrupts, processes
from snnlab.errors import UsageError, run_command
where, facts = sys.argv[1], {"--lr": sys.argv[2]}
me = processes.place_of(where).number
def main():
    with processes.joined(where, facts):
        body()
"""
TAIL = "\nrun_command(main, 'prog')\n"
TALK = """
def body():
    print(processes.gathered([me]), processes.shared(f"of {me}"), processes.leads())
"""
#: Process 1 does something after some of its steps, process 0 is faster.
STEPS = """
def body():
    with interrupts.leaving("go on with X"), interrupts.held("after this step"):
        for k in range(4000):
            processes.step()
            if me == {who} and k == 20:
                {act}
            if processes.stopping():
                print("stopped after", k)
                time.sleep(1 - me)  # process 0 saves, while the others have left
            processes.check()
            time.sleep(0.002 * (1 + 3 * me))  # what is told meanwhile comes too late for this step
"""


class Group:
    """Processes of one run, started together and never left over."""

    def __init__(self, code: str, count: int = 2, values: tuple[str, ...] = ()) -> None:
        self.port = free_port()
        self.began = time.monotonic()
        self.members = [
            subprocess.Popen(
                [sys.executable, "-c", HEAD + code + TAIL, f"127.0.0.1:{self.port},{count},{i}",
                 (values or ("1",) * count)[i]],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for i in range(count)
        ]  # fmt: skip

    def ends(self) -> list[tuple[int, str, list[str]]]:
        """Exit code, output and lines of errors of each."""
        try:
            said = [m.communicate(timeout=60) for m in self.members]
        finally:
            for member in self.members:
                member.kill()
        return [
            (m.returncode, out, err.splitlines())
            for m, (out, err) in zip(self.members, said, strict=True)
        ]


def test_a_place_is_read() -> None:
    assert place_of("") is place_of("auto") is None
    assert place_of("node-1:29500,4,3") == Place("node-1", 29500, 4, 3)
    assert place_of("[::1]:80,1,0") == Place("::1", 80, 1, 0)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("here", "must be HOST:PORT,N,I"), ("h:1,2", "must be HOST:PORT,N,I"),
        ("h,2,0", "must be HOST:PORT,N,I"), ("h:1,2,-1", "must be HOST:PORT,N,I"),
        ("h:99999,2,0", "a port is"), ("h:1,0,0", "N 1 or more"), ("h:1,2,2", "last one has I = 1"),
    ],
)  # fmt: skip
def test_what_is_no_place_is_refused(text: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        place_of(text)


SLURM = {
    "SLURM_JOB_ID": "77", "SLURM_STEP_NODELIST": "node[003-004],gpu1", "SLURM_NTASKS": "4",
    "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_STEP_NUM_NODES": "2",
}  # fmt: skip


def test_slurm_says_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(processes, "_local_devices", None)
    place = processes._detected()
    assert (place.host, place.of, place.number) == ("node003", 4, 3)
    assert 1024 < place.port < 65536
    assert processes._local_devices == [1]


def test_without_a_cluster_the_flag_alone_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SLURM:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match=r"no cluster .* is known here; give HOST:PORT,N,I"):
        processes._detected()


def test_alone_everything_is_trivial() -> None:
    with processes.joined("", {}):
        assert (processes.count(), processes.index(), processes.leads()) == (1, 0, True)
        assert processes.gathered("x") == ["x"]
        assert processes.shared("x") == "x"
        processes.agree({"a": "1"})
        assert not processes.stopping()


def test_they_meet_and_tell_each_other() -> None:
    for number, (code, out, err) in enumerate(Group(TALK, 3).ends()):
        assert (code, out, err) == (0, f"[[0], [1], [2]] of 0 {number == 0}\n", [])


def test_what_differs_is_refused_in_every_process() -> None:
    line = (
        "prog: error: --distributed: --lr is 2 in process 1 and 1 in process 0; it must be the "
        "same in all"
    )
    assert Group(TALK, 2, ("1", "2")).ends() == [(2, "", [line])] * 2


def test_a_signal_to_one_stops_all_after_the_same_step() -> None:
    """The slower one is told; the faster one has begun more steps by then."""
    both = Group(STEPS.format(who=1, act="os.kill(os.getpid(), signal.SIGTERM)")).ends()
    assert [code for code, _, _ in both] == [143, 143]
    assert both[0][1] == both[1][1] != ""
    assert both[1][2][0] == "SIGTERM: after this step"
    assert [err[-1] for _, _, err in both] == ["prog: ended by SIGTERM"] * 2


@pytest.mark.parametrize("who", [0, 2])
def test_the_end_of_one_is_the_end_of_all(who: int) -> None:
    group = Group(STEPS.format(who=who, act="os.kill(os.getpid(), signal.SIGKILL)"), 3)
    ends = group.ends()
    assert time.monotonic() - group.began < 60
    for number, (code, _, err) in enumerate(ends):
        if number == who:
            assert code == -signal.SIGKILL
            continue
        line = (
            f"prog: error: process {who} of 3 ended without a word, so this one, process {number}, "
            "ends; what was saved before is kept; go on with X"
        )
        assert (code, err) == (processes.LOST, [line])


def test_the_others_know_why_one_failed() -> None:
    (code, _, err), mine = Group(STEPS.format(who=1, act="raise UsageError('no space')")).ends()
    assert mine[0] == 2
    assert mine[2] == ["prog: error: no space"]
    assert code == processes.LOST
    assert len(err) == 1
    assert "process 1 of 2 ended (no space)" in err[0]


def test_who_does_not_come_is_named() -> None:
    lost: list[object] = []
    hub = Company(0, 2, "127.0.0.1", free_port(), lambda *end: lost.append(end))
    with pytest.raises(Refused, match=r"process 1 of 2 did not come to 127.0.0.1:\d+ within 0.2 s"):
        hub.meet(0.2)
    alone = Company(1, 2, "127.0.0.1", free_port(), lambda *end: lost.append(end))
    with pytest.raises(Refused, match=r"process 1 of 2 found no process 0 .* within 0.2 s"):
        alone.meet(0.2)
    hub.close()
    alone.close()
    assert lost == []


def test_who_does_not_belong_is_refused() -> None:
    port = free_port()
    hub = Company(0, 3, "127.0.0.1", port, lambda *end: None)
    with pytest.raises(Refused, match="did not come"):
        hub.meet(0.01)  # it goes on listening
    with socket.create_connection(("127.0.0.1", port)) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n")
        assert stranger.recv(10) == b""
    other = Company(1, 2, "127.0.0.1", port, lambda *end: None)
    with pytest.raises(Refused, match="process 1 was told of 2 processes, process 0 of 3"):
        other.meet(5)
    other.close()
    with socket.create_connection(("127.0.0.1", port)) as double:
        double.sendall(b'{"snnlab": 1, "kind": "member", "index": 0, "count": 3}\n')
        assert json.loads(double.recv(1000)) == {"refused": "two processes have the index 0"}
    hub.close()


def test_jax_keeps_its_end_when_process_0_dies() -> None:
    """Bytes go both ways; when the other end is gone this one is silent, not closed."""
    echo = """
import socket, threading
from snnlab.processes import _company
def body():
    server = socket.create_server(("127.0.0.1", processes._company.jax_port))
    there, _ = server.accept()
    there.sendall(there.recv(100).upper())
    there.recv(100)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    port = free_port()
    hub = subprocess.Popen([sys.executable, "-c", HEAD + echo + TAIL, f"127.0.0.1:{port},2,0", "1"])
    lost: list[tuple[int, str]] = []
    try:
        me = Company(1, 2, "127.0.0.1", port, lambda *end: lost.append(end))
        me.meet(30)
        assert me.gathered({"--lr": "1"}) == [{"--lr": "1"}] * 2
        with socket.create_connection(("127.0.0.1", me.jax_port), timeout=30) as jax:
            jax.sendall(b"hello")
            assert jax.recv(100) == b"HELLO"
            jax.sendall(b"die")
            assert hub.wait(30) == -signal.SIGKILL
            jax.settimeout(1)
            with pytest.raises(TimeoutError):
                jax.recv(1)
        me.close()
    finally:
        hub.kill()
    assert lost == [(0, "")]
