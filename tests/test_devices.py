"""How much memory there is, where a control group gives less than the machine has."""

from __future__ import annotations

from pathlib import Path

import jax
import pytest

from snnlab import devices
from snnlab.devices import Memory, host_memory, memory, require_memory
from snnlab.errors import UsageError

GB = 10**9


def machine(root: Path, cgroup: str, groups: dict[str, dict[str, object]]) -> Path:
    """A tree with 16 GB, 10 free, and what control groups say of themselves."""
    files: dict[str, object] = {
        "proc/meminfo": "MemTotal: 15625000 kB\nMemAvailable: 9765625 kB\n",
        "proc/self/cgroup": cgroup,
    }
    for folder, own in groups.items():
        files |= {f"sys/fs/cgroup/{folder}/{name}": value for name, value in own.items()}
    for name, value in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(value))
    return root


def group(limit: object, used: int, cache: int = 0) -> dict[str, object]:
    return {"memory.max": limit, "memory.current": used,
            "memory.stat": f"anon 5\ninactive_file {cache}\n"}  # fmt: skip


def old(limit: int, used: int, cache: int = 0) -> dict[str, object]:
    return {"memory.limit_in_bytes": limit, "memory.usage_in_bytes": used,
            "memory.stat": f"cache 1\ntotal_inactive_file {cache}\n"}  # fmt: skip


@pytest.mark.parametrize(
    ("cgroup", "groups", "total", "free"),
    [
        ("0::/\n", {}, 16, 10),
        ("0::/\n", {"": group("max", 3 * GB)}, 16, 10),
        ("0::/job\n", {"job": group(4 * GB, 3 * GB, GB)}, 4, 2),
        ("0::/a/b\n", {"a": group(6 * GB, GB), "a/b": group("max", GB)}, 6, 5),
        ("0::/of/the/host\n", {"": group(2 * GB, GB)}, 2, 1),
        ("0::/job\n", {"job": group(4 * GB, 5 * GB)}, 4, 0),
        ("4:memory:/job\n1:cpu:/x\n", {"memory/job": old(8 * GB, 2 * GB, GB)}, 8, 7),
        ("4:memory:/\n", {"memory": old(2**63 - 4096, 2 * GB)}, 16, 10),
    ],
    ids=["none", "max", "cache counts as free", "the outer one", "in a container", "over", "v1",
         "v1 without"],
)  # fmt: skip
def test_the_smallest_limit_counts(
    cgroup: str, groups: dict, total: int, free: int, tmp_path: Path
) -> None:
    assert host_memory(machine(tmp_path, cgroup, groups)) == Memory(total * GB, free * GB)


def test_unknown_is_none(tmp_path: Path) -> None:
    assert host_memory(tmp_path) is None


def test_this_machine() -> None:
    found = memory()
    if found is None:
        pytest.skip("this system does not tell")
    assert 2**28 < found.free <= found.total < 2**46


def test_what_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "memory", lambda: Memory(4 * GB, 2 * GB))
    require_memory(1.9 * GB, "it")
    with pytest.raises(UsageError, match=r"it takes 2.1 GB, 2.0 GB are free"):
        require_memory(2.1 * GB, "it")


# ---------------------------------------------------------------------- --devices


class Pretended:
    def __init__(self, number: int, platform: str) -> None:
        self.id, self.platform, self.device_kind = number, platform, f"a {platform}"


def there(monkeypatch: pytest.MonkeyPatch, n: int, platform: str) -> None:
    monkeypatch.setattr(
        jax, "local_devices", lambda **_: [Pretended(k, platform) for k in range(n)]
    )


@pytest.mark.parametrize(
    ("n", "platform", "asked", "ids"),
    [
        (4, "gpu", "0", [0]),
        (4, "gpu", "2, 0,2", [2, 0]),
        (4, "gpu", "ALL", [0, 1, 2, 3]),
        (1, "gpu", "all", [0]),
        (4, "gpu", "cpu", []),
        (1, "cpu", "0,1", []),  # no accelerator: the CPU, as it is
        (1, "cpu", "all", []),
        (1, "cpu", "cpu:1", []),
        (8, "cpu", "cpu", []),
        (8, "cpu", "cpu:4", [0, 1, 2, 3]),
        (8, "cpu", "all", list(range(8))),
        (8, "cpu", "1,3", [1, 3]),
    ],
)
def test_devices_that_are_chosen(
    n: int, platform: str, asked: str, ids: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    there(monkeypatch, n, platform)
    assert [d.id for d in devices.chosen(asked)] == ids


@pytest.mark.parametrize(
    ("n", "platform", "asked", "line"),
    [
        (2, "gpu", "0,5", r"no accelerator 5; here: 0 \(a gpu\), 1 \(a gpu\)"),
        (2, "cpu", "9", "no device 9"),
        (2, "cpu", "cpu:4", r"JAX runs already, with 2 device\(s\) of the CPU"),
        (1, "cpu", "cpu:0", "cpu:N for N of 1 to 64"),
        (1, "cpu", "cpu:1,2", "must be a comma list"),
        (1, "cpu", "cpu:x", "must be a comma list"),
        (1, "cpu", ",", "must be a comma list"),
    ],
)
def test_devices_that_are_refused(
    n: int, platform: str, asked: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there(monkeypatch, n, platform)
    with pytest.raises(UsageError, match=line):
        devices.chosen(asked)
