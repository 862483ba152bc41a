"""The wheel: what it holds, and that it works where there is no repository."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("src", "configs", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE")
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built offline, of a copy: building leaves folders behind."""
    # Not imported: setuptools refuses to be where something has imported distutils before it.
    for name in ("pip", "setuptools"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    if int(importlib.metadata.version("setuptools").split(".")[0]) < 77:
        pytest.skip("setuptools is older than 77")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, source / part,
                            ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))  # fmt: skip
        else:
            shutil.copy(ROOT / part, source)
    subprocess.run(
        [*PIP, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", folder, source],
        check=True, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    (made,) = folder.glob("*.whl")
    return made


def test_the_wheel_holds_package_configs_command_and_readme(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = {name for name in file.namelist() if ".dist-info/" not in name}
        (info,) = {name.split("/")[0] for name in file.namelist() if ".dist-info/" in name}
        scripts = file.read(f"{info}/entry_points.txt").decode()
        about = Parser().parsestr(file.read(f"{info}/METADATA").decode())
        config = file.read("snnlab/configs/balanced/hd.yaml")
    source = ROOT / "src"
    wanted = {str(p.relative_to(source)) for p in (source / "snnlab").rglob("*.py")}
    wanted |= {f"snnlab/{p.relative_to(ROOT)}" for p in (ROOT / "configs").rglob("*.yaml")}
    wanted |= {f"snnlab/report/report.{kind}.jinja" for kind in ("html", "md")}
    assert names == {*wanted, "snnlab/py.typed"}
    assert "snnlab = snnlab.__main__:script" in scripts
    assert config == (ROOT / "configs/balanced/hd.yaml").read_bytes()
    assert (ROOT / "README.md").read_text().strip() in about.get_payload()


@pytest.mark.slow
def test_the_wheel_trains_from_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    """Installed into an environment that sees the packages of this one, but not its snnlab."""
    home, here = tmp_path / "venv", tmp_path / "empty"
    here.mkdir()
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    where = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    (Path(where) / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = ["--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([*PIP, *install], check=True, capture_output=True, text=True, timeout=300)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def snnlab(*argv: str) -> str:
        done = subprocess.run(
            [home / "bin" / "snnlab", *argv], cwd=here, env=environment, capture_output=True,
            text=True, check=False, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "image-classification/smoke" in snnlab("configs")
    said = snnlab("run", "image-classification", "--config", "smoke", "--epochs", "1",
                  "--devices", "cpu", "--filepath", "one")  # fmt: skip
    assert "test accuracy" in said
    assert json.loads((here / "one" / "results.json").read_text())["epochs"] == 1
    snnlab("run", "--resume", "one", "--epochs", "2", "--devices", "cpu")
    assert json.loads((here / "one" / "results.json").read_text())["epochs"] == 2
    assert {path.name for path in here.iterdir()} == {"one"}
