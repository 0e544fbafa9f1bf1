# SPDX-License-Identifier: GPL-2.0-only
"""Whether KVM works here. It is tried, since /dev/kvm can exist and hang every guest."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from pytest_iommufd.host.child import Child
from pytest_iommufd.host.files import write_whole
from pytest_iommufd.machine.qemu import OUTPUT, Guest, last_words

DEVICE = Path("/dev/kvm")
# With KVM a kernel prints its first line in a small fraction of this.
_PROBE_SECONDS = 5.0
_SIGN_OF_LIFE = b"Linux version"


@dataclass(frozen=True)
class Acceleration:
    """How guests run.

    Attributes:
        name: "kvm" or "tcg", as QEMU calls them.
        reason: why it is not KVM, "" when it is.
    """

    name: str
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})" if self.reason else self.name


def choose(image: Path, cache: Path, wanted: str = "auto") -> Acceleration:
    """Choose KVM when it works, else TCG; the answer of a try is remembered until the next boot.

    Args:
        image: a kernel to try it with; one that prints on its serial console.
        cache: the folder that remembers.
        wanted: "auto", or "kvm" or "tcg" to have just that.
    """
    if wanted != "auto":
        return Acceleration(wanted, "" if wanted == "kvm" else "asked for")
    if not DEVICE.exists():
        return Acceleration("tcg", f"{DEVICE} does not exist")
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        return Acceleration("tcg", f"{DEVICE} may not be opened by this user")
    memory = cache / "kvm.json"
    key = _situation()
    known = _recall(memory)
    if known.get("key") == key:
        reason = known.get("reason", "")
    else:
        reason = _try(image)
        with contextlib.suppress(OSError):  # it is tried again next time
            cache.mkdir(parents=True, exist_ok=True)
            write_whole(memory, json.dumps({"key": key, "reason": reason}))
    return Acceleration("tcg", reason) if reason else Acceleration("kvm")


def _situation() -> str:
    """Return what the answer depends on: this boot of this machine, its KVM and its QEMU."""
    device = DEVICE.stat()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    text = f"{boot}{os.uname().release}{device.st_rdev}{device.st_mode}"
    return hashlib.sha256(text.encode()).hexdigest()


def _recall(memory: Path) -> dict[str, str]:
    try:
        known = json.loads(memory.read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _try(image: Path) -> str:
    """Start the kernel under KVM; "" when it shows life, else why not."""
    arguments = ("console=ttyS0", "panic=-1")
    guest = Guest(image, None, "kvm", memory=256, cpus=1, arguments=arguments, agent=False)
    with tempfile.TemporaryDirectory(prefix="pytest-iommufd-") as scratch:
        folder = Path(scratch)
        with (folder / OUTPUT).open("wb") as output:
            child = Child(guest.command(folder), output=output)
        try:
            deadline = time.monotonic() + _PROBE_SECONDS
            while time.monotonic() < deadline:
                if _SIGN_OF_LIFE in _content(folder / "console"):
                    return ""
                if child.wait(0.02):
                    return f"{DEVICE} does not work: QEMU {child.status()}{last_words(folder)}"
        finally:
            child.kill()
    return f"{DEVICE} does not work: a guest hangs"


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
