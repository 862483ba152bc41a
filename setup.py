"""Puts ``configs/`` into the package of a wheel; everything else is in ``pyproject.toml``.

An editable installation reads the folder where it is.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigs(build_py):
    """Copies the packages, and the configs beside ``snnlab/config_files.py``."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "snnlab" / "configs"
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree("configs", target, ignore=shutil.ignore_patterns(".*"))


setup(cmdclass={"build_py": BuildWithConfigs})
