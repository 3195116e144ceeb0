"""Puts the folders beside the package into the wheel: they are what ``voiceops.config.shipped`` finds."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = ("templates", "examples", "inventory.yaml", ".env.example", "requirements.lock")


class BuildWithShipped(build_py):
    """Adds ``voiceops/shipped/``."""

    def run(self) -> None:
        super().run()
        target = Path(self.build_lib) / "voiceops" / "shipped"
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for name in SHIPPED:
            if Path(name).is_dir():
                shutil.copytree(name, target / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
            else:
                shutil.copyfile(name, target / name)


setup(cmdclass={"build_py": BuildWithShipped})
