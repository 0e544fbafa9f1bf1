# SPDX-License-Identifier: GPL-2.0-only
"""Puts this Python, with what is installed in it, into an initramfs: a guest that runs pytest.

The guest's own kernel can then be tested with `--kernel running`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

from pytest_iommufd.agent.initramfs import Initramfs

# Not needed to run pytest, and large.
_LEFT_OUT = re.compile(
    r"/(test|tests|idlelib|tkinter|turtledemo|ensurepip|lib2to3|pip|setuptools|mypy|ruff|"
    r"mypyc|config-[^/]*)/|/libpython[^/]*\.a$|/_tkinter\."
)
# PEP 552: "hash-based", and not compared with the source.
_UNCHECKED = (1).to_bytes(4, "little")
_LIBRARY = re.compile(r"(/\S+) \(0x")


class Userland:
    """An initramfs that files of this machine are copied into, at the same paths."""

    def __init__(self) -> None:
        self.archive = Initramfs()
        self._added: set[str] = set()
        for folder in ("/dev", "/proc", "/sys", "/tmp"):  # noqa: S108 - mount points in the guest
            self._folder(Path(folder))
        self.archive.device("dev/console", 5, 1)

    def python(self) -> Path:
        """Add the interpreter, its library and its packages; returns the interpreter's path."""
        program = Path(sys.executable)
        real = program.resolve()
        self.program(real)
        for name in ("stdlib", "platstdlib", "purelib", "platlib"):
            self.tree(Path(sysconfig.get_path(name)))
        config = program.parent.parent / "pyvenv.cfg"
        if config.exists():
            self.file(config, config)
        if program != real:
            self.file(real, program)
        return program

    def tree(self, top: Path) -> None:
        """Add a folder and all that is in it, but for what is left out."""
        for root, folders, files in os.walk(top):
            # the folder itself may be anywhere, in one that is called tests as well
            within = root.removeprefix(str(top))
            # an interpreter's own packages are not those of a virtual environment made from it
            own = not within and top.name != "site-packages"
            folders[:] = [
                name
                for name in folders
                if not _LEFT_OUT.search(f"{within}/{name}/")
                and not (own and name in ("site-packages", "dist-packages"))
            ]
            for name in files:
                path = Path(root) / name
                if path.is_file() and not _LEFT_OUT.search(f"{within}/{name}"):
                    self.program(path) if ".so" in name else self.file(path, path)

    def program(self, path: Path) -> None:
        """Add a program or a shared object with the libraries it needs."""
        self.file(path, path)
        listed = subprocess.run(["ldd", str(path)], capture_output=True, text=True, check=False)
        for library in _LIBRARY.findall(listed.stdout):
            self.file(Path(library), Path(library))

    def file(self, source: Path, target: Path) -> None:
        """Add a file."""
        if str(target) in self._added:
            return
        self._folder(target.parent)
        self._added.add(str(target))
        mode = 0o755 if os.access(source, os.X_OK) else 0o644
        content = source.read_bytes()
        if source.suffix == ".pyc":
            # in the guest each file is as old as its boot: all would be compiled again, emulated
            content = content[:4] + _UNCHECKED + content[8:]
        self.archive.file(str(target).lstrip("/"), content, mode)

    def text(self, target: str, content: str) -> None:
        """Add a file with this content."""
        self._folder(Path(target).parent)
        self.archive.file(target.lstrip("/"), content.encode())

    def _folder(self, path: Path) -> None:
        if str(path) in self._added or path == path.parent:
            return
        self._folder(path.parent)
        self._added.add(str(path))
        self.archive.directory(str(path).lstrip("/"))
