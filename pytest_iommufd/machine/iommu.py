# SPDX-License-Identifier: GPL-2.0-only
"""The IOMMUs that QEMU can give a guest, and devices behind them for tests to take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Iommu:
    """An IOMMU that QEMU emulates.

    Attributes:
        words: QEMU's, which come before those of any device.
        arguments: the kernel's.
    """

    words: tuple[str, ...]
    arguments: tuple[str, ...]


NONE = "none"

IOMMUS = {
    "intel": Iommu(
        (
            "-device",
            # caching-mode: has the kernel tell of new mappings, as in any guest.
            # snoop-control: for cache coherency that is enforced.
            "intel-iommu,intremap=on,caching-mode=on,x-scalable-mode=on,snoop-control=on",
        ),
        ("intel_iommu=on,sm_on",),
    ),
    "amd": Iommu(("-device", "amd-iommu,intremap=on"), ()),
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

DEVICE_WORDS = tuple(word for device in _DEVICES.values() for word in ("-device", device))
"""QEMU's words for them."""
