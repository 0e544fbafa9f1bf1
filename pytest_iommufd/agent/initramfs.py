# SPDX-License-Identifier: GPL-2.0-only
"""Writes the guest's initramfs: an uncompressed cpio archive in the "newc" form.

The format is in the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass, field


@dataclass
class Initramfs:
    """An archive in memory; bytes() of it is the file."""

    _parts: list[bytes] = field(default_factory=list)
    _count: int = 0

    def directory(self, path: str) -> None:
        """Add a folder; its parents must have been added before it."""
        self._entry(path, stat.S_IFDIR | 0o755, b"")

    def file(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """Add a file."""
        self._entry(path, stat.S_IFREG | mode, content)

    def device(self, path: str, major: int, minor: int) -> None:
        """Add a character device; a kernel wants /dev/console before devtmpfs is there."""
        self._entry(path, stat.S_IFCHR | 0o600, b"", (major, minor))

    def _entry(
        self, path: str, mode: int, content: bytes, device: tuple[int, int] = (0, 0)
    ) -> None:
        self._count += 1
        name = path.encode() + b"\0"
        # inode, mode, uid, gid, links, mtime, size, device (2), rdevice (2), name size, checksum
        numbers = (self._count, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(name), 0)
        head = b"070701" + b"".join(b"%08X" % number for number in numbers) + name
        self._parts.append(head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4))

    def __bytes__(self) -> bytes:
        trailer = Initramfs()
        trailer._entry("TRAILER!!!", 0, b"")
        whole = b"".join([*self._parts, *trailer._parts])
        return whole + bytes(-len(whole) % 512)
