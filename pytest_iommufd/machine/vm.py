# SPDX-License-Identifier: GPL-2.0-only
"""A machine that is a QEMU guest."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_iommufd.agent.initramfs import Initramfs
from pytest_iommufd.host import unpack
from pytest_iommufd.host.child import Child
from pytest_iommufd.machine.autopsy import CONSOLE_TAIL_LINES
from pytest_iommufd.machine.iommu import IOMMUS, NONE, PCI_DEVICES
from pytest_iommufd.machine.machine import Machine
from pytest_iommufd.machine.qemu import OUTPUT, Guest, last_words
from pytest_iommufd.machine.stream import DeadlinePassedError, Stream, StreamEndedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_iommufd.machine.accel import Acceleration

BOOT_SECONDS = 60.0
CALL_SECONDS = 10.0
# How long a kernel may take to print its last words after an NMI.
_PANIC_SECONDS = 2.0
_PREFIX = "pytest-iommufd-vm-"
# A unix socket's path is at most 107 bytes long, its name in here included.
_LONGEST_FOLDER = 60


class VirtualMachine(Machine):
    """A QEMU guest of a kernel, the modules and the agent.

    Its console goes to a file from the first byte. The socket is bound before QEMU starts, in a
    folder that only this user can enter. QEMU dies with this process.

    Args:
        image: the kernel.
        modules: to load, in that order.
        agent: its program.
        acceleration: from accel.choose().
        memory: MiB.
        iommu: the name of an IOMMU that the guest has with some devices, or "none"; see iommu.py.
        boot_seconds, call_seconds: see Machine.
    """

    restarts = True

    def __init__(
        self,
        image: Path,
        modules: Sequence[Path],
        agent: Path,
        acceleration: Acceleration,
        *,
        memory: int = 1024,
        iommu: str = NONE,
        boot_seconds: float = BOOT_SECONDS,
        call_seconds: float = CALL_SECONDS,
    ) -> None:
        super().__init__(boot_seconds=boot_seconds, call_seconds=call_seconds)
        self.image = image
        self.modules = tuple(modules)
        self.memory = memory
        self.iommu = iommu
        self.pci_devices = PCI_DEVICES if iommu in IOMMUS else ()
        self.binds = True
        self._agent = agent
        self._acceleration = acceleration
        self._folder: Path | None = None
        self._listener: socket.socket | None = None
        self._qemu: Child | None = None
        self._last_console = ""

    @property
    def acceleration(self) -> str:
        """The name "kvm", or "tcg" and why."""
        return str(self._acceleration)

    @property
    def pid(self) -> int:
        """QEMU's process id, 0 when it does not run."""
        return self._qemu.pid if self._qemu else 0

    @property
    def folder(self) -> Path | None:
        """Where its console file and its sockets are; None when it does not run."""
        return self._folder

    @property
    def _launched(self) -> bool:
        return self._qemu is not None

    def _launch(self) -> None:
        self._folder = _private_folder()
        try:
            initramfs = self._folder / "initramfs"
            initramfs.write_bytes(self._initramfs())
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(self._folder / "agent"))
            self._listener.listen(1)
            guest = Guest(
                self.image,
                initramfs,
                self._acceleration.name,
                memory=self.memory,
                iommu=self.iommu,
            )
            with (self._folder / OUTPUT).open("wb") as output:
                self._qemu = Child(guest.command(self._folder), output=output)
        except BaseException:
            self._destroy()
            raise

    def _initramfs(self) -> bytes:
        archive = Initramfs()
        for folder in ("dev", "proc", "sys", "tmp", "modules"):
            archive.directory(folder)
        archive.device("dev/console", 5, 1)
        archive.file("init", self._agent.read_bytes(), 0o755)
        for number, module in enumerate(self.modules):
            # unpacked here: not every kernel has CONFIG_MODULE_DECOMPRESS
            name = module.name.partition(".ko")[0]
            archive.file(f"modules/{number:02}-{name}.ko", unpack.content(module))
        return bytes(archive)

    def _connect(self, deadline: float) -> Stream:
        assert self._listener  # noqa: S101 - for the type checker: _launch() has made them
        assert self._qemu  # noqa: S101
        # QEMU connects as it starts, or exits
        while True:
            self._listener.settimeout(0.05)
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                if self._qemu.wait(0):
                    raise StreamEndedError(f"QEMU {self._qemu.status()}") from None
                if time.monotonic() > deadline:
                    raise DeadlinePassedError from None
                continue
            descriptor = connection.detach()
            return Stream(descriptor, descriptor, self._qemu.pidfd)

    def exit_status(self) -> str:
        """Say how it ended, "" when it runs."""
        if not (self._qemu and self._folder):
            return ""
        self._qemu.wait(0.2)  # the stream may end a moment before QEMU
        status = self._qemu.status()
        return f"(QEMU) {status}{last_words(self._folder)}" if status else ""

    def backtrace(self) -> None:
        """Have its kernel say on the console where it is, by an NMI."""
        # costly to import, and hardly ever needed
        from pytest_iommufd.machine.control import inject_nmi  # noqa: PLC0415

        if self._folder and self._qemu and inject_nmi(self._folder / "qmp"):
            self._qemu.wait(_PANIC_SECONDS)

    def console(self, lines: int = CONSOLE_TAIL_LINES) -> str:
        """Return the last lines of its console, and what QEMU itself printed."""
        if not self._folder:
            return "\n".join(self._last_console.splitlines()[-lines:])
        text = ""
        for name in (OUTPUT, "console"):
            path = self._folder / name
            if path.exists():
                text += path.read_bytes().decode(errors="replace").replace("\r", "")
        return "\n".join(text.splitlines()[-lines:])

    def _destroy(self) -> None:
        if self._qemu:
            self._qemu.kill()
            self._qemu = None
        if self._listener:
            self._listener.close()
            self._listener = None
        if self._folder:
            self._last_console = self.console(10_000)
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def _private_folder() -> Path:
    top = Path(tempfile.gettempdir())
    if len(str(top)) > _LONGEST_FOLDER:
        top = Path("/tmp")  # noqa: S108 - the folder itself is made for this user only
    _sweep(top)
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=top))


def _sweep(top: Path) -> None:
    """Remove the folders of processes that were killed before they could."""
    for folder in top.glob(f"{_PREFIX}*"):
        pid = folder.name.removeprefix(_PREFIX).partition("-")[0]
        # another user's cannot be removed, and another run may remove it first
        if pid.isdigit() and not Path("/proc", pid).exists():
            shutil.rmtree(folder, ignore_errors=True)
