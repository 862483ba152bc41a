"""Files of others: what does not belong into one is refused in a line, and nothing is run."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from snnlab.errors import UsageError, one_line
from snnlab.exchange import from_nir, read, write

nir = pytest.importorskip("nir", reason="of the extra 'nir'")


def lif(n: int = 3, **changes: Any) -> Any:
    one = np.ones(n)
    values = {"tau": 0.02 * one, "r": one, "v_leak": 0 * one, "v_threshold": one}
    return nir.LIF(**{**values, **changes})


def graph() -> Any:
    nodes = {
        "input": nir.Input(np.array([2])), "w": nir.Linear(np.ones((3, 2), np.float32)),
        "n": lif(), "output": nir.Output(np.array([3])),
    }  # fmt: skip
    return nir.NIRGraph(nodes, [("input", "w"), ("w", "n"), ("n", "output")])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "a.nir", graph())


def test_the_file_is_sound(path: Path) -> None:
    assert from_nir(read(path)).network.layers[0].n == 3
    assert [p.name for p in path.parent.iterdir()] == ["a.nir"]


def outside(file: Any) -> None:
    other = Path(file.filename).with_name("secret.h5")
    with h5py.File(other, "w") as made:
        made["x"] = np.ones((3, 2))
    del file["node/nodes/w/weight"]
    file["node/nodes/w/weight"] = h5py.ExternalLink(other, "x")


def soft(file: Any) -> None:
    file["node/nodes/w/more"] = h5py.SoftLink("/node")


def cycle(file: Any) -> None:
    file["node/nodes/w/more"] = file["node"]


def external(file: Any) -> None:
    del file["node/nodes/w/weight"]
    file["node/nodes/w"].create_dataset("weight", (3, 2), "f4", external=[("/etc/hostname", 0, 24)])


def virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((3, 2), "f4")
    layout[:] = h5py.VirtualSource("secret.h5", "x", (3, 2))
    del file["node/nodes/w/weight"]
    file["node/nodes/w"].create_virtual_dataset("weight", layout)


def reference(file: Any) -> None:
    file["node/nodes/w"].create_dataset("ref", data=file.ref, dtype=h5py.ref_dtype)


def text(file: Any) -> None:
    del file["node/nodes/w/weight"]
    file["node/nodes/w/weight"] = np.array([["1", "2"]] * 3, dtype=object).astype("S")


def no_number(file: Any) -> None:
    del file["node/nodes/w/weight"]
    file["node/nodes/w/weight"] = np.full((3, 2), 1j)


def bomb(file: Any) -> None:
    file["node/nodes/w"].create_dataset("big", (2**40,), "f8", chunks=(2**20,), compression="gzip")


def many(file: Any) -> None:
    group = file["node/nodes"].create_group("many")
    for k in range(200):
        group.create_group(str(k))
    for k in range(110):  # by hard links
        file["node/nodes"][f"again{k}"] = group


def changed(name: str, value: Any) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        del file[f"node/{name}"]
        if value is not None:
            file[f"node/{name}"] = value

    change.__name__ = name.rpartition("/")[2]
    return change


HOSTILE = {
    outside: "'/node/nodes/w/weight' is a link to elsewhere",
    soft: "'/node/nodes/w/more' is a link to elsewhere",
    cycle: "deeper than 12 groups",
    external: "kept in another file",
    virtual: "kept in another file",
    reference: "no number or text",
    text: "a text, and no number",
    no_number: "no number or text",
    bomb: "out of memory: what NIR file",
    many: "more than 20,000 members",
    changed("nodes/w/type", "os.system"): "does not fit together",
    changed("nodes/w/type", "Output"): "does not fit together",
    changed("nodes/w/weight", np.ones((3, 5))): "does not fit together",
    changed("nodes/w/weight", None): "does not fit together",
    changed("nodes/n/tau", np.ones(4)): "does not fit together",
    changed("edges", np.array([[b"w", b"nowhere"]])): "does not fit together",
    changed("edges", np.zeros((2, 2))): "does not fit together",
    changed("nodes", np.zeros(2)): "does not fit together",
    changed("type", "LIF"): "does not fit together",
}


@pytest.mark.parametrize("change", HOSTILE, ids=lambda f: f.__name__)
def test_what_does_not_belong_there(change: Callable[[Any], None], path: Path) -> None:
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(UsageError, match=HOSTILE[change]) as error:
        from_nir(read(path))
    assert one_line(str(error.value)) == str(error.value)


@pytest.mark.parametrize("at", [0, 10, 200, 1500, -300, -1])
def test_a_broken_file(at: int, path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:at])
    with pytest.raises(UsageError, match=f"NIR file {path}"):
        read(path)


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such file"):
        read(tmp_path / "nowhere.nir")
    with pytest.raises(UsageError, match="it is no plain file"):
        read(tmp_path)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["spikes"] = np.zeros(3)
    with pytest.raises(UsageError, match="holds no graph of NIR"):
        read(tmp_path / "x.h5")
    with pytest.raises(UsageError, match=r"cannot write .*: it is a folder"):
        write(tmp_path, graph())
    (tmp_path / "a.py").write_text("import this")
    with pytest.raises(UsageError, match="it is no HDF5 file, which NIR files are"):
        read(tmp_path / "a.py")
    with pytest.raises(UsageError, match=r"a\.py/net\.nir: (Not a directory|File exists)$"):
        write(tmp_path / "a.py" / "net.nir", graph())
    if Path("/proc/self").is_dir():  # where no file can be made, by anybody
        with pytest.raises(UsageError, match=r"cannot write /proc/net\.nir: No such file"):
            write("/proc/net.nir", graph())


def test_without_the_package(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for use in (lambda: read(path), lambda: write(path, None), lambda: from_nir(None)):
        with pytest.raises(UsageError, match=r"NIR files need the package nir, of the extra 'nir'"):
            use()


UNFIT = {
    "n: tau of 0.0001 s is shorter than a step of 0.001 s": {
        "n": lambda: lif(tau=np.full(3, 1e-4))
    },
    "n: tau needs 3 finite values": {"n": lambda: lif(tau=np.full(3, np.nan))},
    "'n' .CubaLI. is unsupported": {
        "n": lambda: nir.CubaLI(*[np.ones(3)] * 4)
    },
    "weights that are not finite": {"w": lambda: nir.Linear(np.full((3, 2), np.inf))},
    "nothing of it spikes": {"n": lambda: nir.LI(*[np.ones(3)] * 3)},
}  # fmt: skip


@pytest.mark.parametrize("message", UNFIT)
def test_a_graph_of_which_no_network_can_be_made(message: str) -> None:
    made = graph()
    made.nodes |= {name: node() for name, node in UNFIT[message].items()}
    with pytest.raises(UsageError, match=message.replace("n:", "'n':")):
        from_nir(made)


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([("input", "w"), ("w", "n"), ("n", "output"), ("n", "m"), ("m", "output")], "2 others"),
        ([("input", "w"), ("input", "m"), ("m", "n"), ("w", "n"), ("n", "output")], "2 others"),
        ([("input", "w"), ("w", "n"), ("n", "output")], "'m' is not reached"),
        (
            [("input", "w"), ("w", "n"), ("n", "m"), ("m", "n"), ("n", "m2"), ("m2", "n"),
             ("n", "output")], "2 maps of its own",
        ),
        ([("input", "w"), ("w", "n"), ("n", "n"), ("n", "output"), ("n", "m")], "several inputs"),
    ],
)  # fmt: skip
def test_a_graph_that_is_no_chain(edges: list[tuple[str, str]], message: str) -> None:
    made = graph()
    made.nodes |= {name: nir.Linear(np.ones((3, 3))) for name in ("m", "m2")}
    made.edges = edges
    with pytest.raises(UsageError, match=message):
        from_nir(made)
