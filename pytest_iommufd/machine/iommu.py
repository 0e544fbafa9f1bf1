# SPDX-License-Identifier: GPL-2.0-only
"""The IOMMUs that QEMU can give a guest, and devices behind them for tests to take."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from pytest_iommufd.errors import Problem
from pytest_iommufd.host.run import ask


@dataclass(frozen=True)
class Iommu:
    """An IOMMU that QEMU emulates.

    Attributes:
        device: QEMU's name for it.
        properties: as the newest QEMU calls them; while they are new to it, "x-" is before that.
        arguments: the kernel's.
    """

    device: str
    properties: tuple[str, ...]
    arguments: tuple[str, ...] = ()

    def words(self, program: str) -> list[str]:
        """Return QEMU's words for it and for the devices behind it, which come after it.

        Args:
            program: QEMU.

        Raises:
            Problem: this QEMU lacks a device, or a property of the IOMMU.
        """
        known = _properties(program, self.device)
        settings = []
        for setting in self.properties:
            names = (setting.partition("=")[0], f"x-{setting.partition('=')[0]}")
            name = next((name for name in names if name in known), None)
            if name is None:
                raise _lacking(program, f"{self.device} has no property {names[0]}")
            settings.append(setting.replace(names[0], name, 1))
        words = ["-device", ",".join((self.device, *settings))]
        for device in _DEVICES.values():
            _properties(program, device.partition(",")[0])
            words += ["-device", device]
        return words


NONE = "none"

IOMMUS = {
    "intel": Iommu(
        "intel-iommu",
        # caching-mode: has the kernel tell of new mappings, as in any guest.
        # snoop-control: for cache coherency that is enforced.
        ("intremap=on", "caching-mode=on", "scalable-mode=on", "snoop-control=on"),
        ("intel_iommu=on,sm_on",),
    ),
    "amd": Iommu("amd-iommu", ("intremap=on",)),
}
"""By name; "none" is none of them."""

# edu: no driver of the kernel wants it, and it does DMA when it is told to.
_DEVICES = {
    "0000:00:10.0": "edu,addr=0x10",
    # functions of one device without ACS: they are one IOMMU group
    "0000:00:11.0": "edu,addr=0x11.0,multifunction=on",
    "0000:00:11.1": "edu,addr=0x11.1",
}
PCI_DEVICES = tuple(_DEVICES)
"""Where a guest with an IOMMU has devices to take: one for itself, and two that share a group."""


@functools.cache
def _properties(program: str, device: str) -> frozenset[str]:
    """Ask a QEMU for the properties of a device: their names change from version to version."""
    asked = ask([program, "-device", f"{device},help"])
    found = frozenset(re.findall(r"^ +([\w-]+)=", asked.stdout.decode(), re.MULTILINE))
    if not found:  # whatever the exit status: 7.2's is 0
        raise _lacking(program, asked.stderr.decode().strip() or f"no device {device}")
    return found


def _lacking(program: str, what: str) -> Problem:
    return Problem(
        f"{program} cannot give a guest the IOMMU: {what}",
        expected="QEMU 7.2 or later with all of its devices, as Debian has it",
        mend="put such a qemu-system-x86_64 on the PATH, or run without --iommufd-iommu",
    )
