# SPDX-License-Identifier: GPL-2.0-only
"""Images and modules as far as their headers go, which is as far as the host reads them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

X86_64, AARCH64 = 62, 183
_HEADER, _SECTION = 64, 64


def module_bytes(
    name: str, *depends: str, release: str = "6.12.1", machine: int = X86_64, info: str = ".modinfo"
) -> bytes:
    """A relocatable ELF file with nothing but a section of information."""
    vermagic = f"{release} SMP preempt mod_unload "
    said = {"depends": ",".join(depends), "name": name, "vermagic": vermagic}
    text = b"".join(f"{key}={value}\0".encode() for key, value in said.items())
    names = f"\0{info}\0.shstrtab\0".encode()
    sections_at = _HEADER + len(text) + len(names)
    head = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\2\1\1",
        *(1, machine, 1, 0, 0, sections_at, 0, _HEADER, 0, 0, _SECTION, 3, 2),
    )
    sections = (
        (0, 0, 0, 0),
        (1, 1, _HEADER, len(text)),
        (len(info) + 2, 3, _HEADER + len(text), len(names)),
    )
    table = b"".join(
        struct.pack("<IIQQQQIIQQ", at, kind, 0, 0, begin, size, 0, 0, 1, 0)
        for at, kind, begin, size in sections
    )
    return head + text + names + table


def add_module(folder: Path, name: str, *depends: str, release: str = "6.12.1") -> Path:
    """A file for a module; its name has `-` where the module's has `_`."""
    path = folder / f"{name.replace('_', '-')}.ko"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(module_bytes(name, *depends, release=release))
    return path


def add_image(path: Path, release: str = "6.12.1") -> Path:
    """A bzImage's header, and as many bytes after it as that counts."""
    head = bytearray(2 * 512)
    head[0x1F1] = 1
    head[0x1F4:0x1F8] = (64).to_bytes(4, "little")
    head[0x202:0x206] = b"HdrS"
    head[0x20E:0x210] = (0x100).to_bytes(2, "little")
    version = f"{release} (someone@somewhere) #1 SMP\0".encode()
    head[0x300 : 0x300 + len(version)] = version
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(head) + bytes(64 * 16))
    return path


GUEST = (
    *("BLK_DEV_INITRD", "DEVTMPFS", "PROC_FS", "SYSFS", "TMPFS", "PCI", "SERIAL_8250_CONSOLE"),
    *("VIRTIO_PCI", "VIRTIO_CONSOLE", "IOMMUFD", "IOMMUFD_TEST"),
)


def add_config(path: Path, arch: str = "x86", **values: str) -> Path:
    """A configuration that suits, but for what is given; "" is not set."""
    lines = [f"# Linux/{arch} 6.12.1 Kernel Configuration"]
    for name, value in (dict.fromkeys(GUEST, "y") | values).items():
        lines.append(f"CONFIG_{name}={value}" if value else f"# CONFIG_{name} is not set")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*lines, ""]))
    return path
