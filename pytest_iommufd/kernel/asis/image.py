# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel image says of itself, by its first bytes.

The header of a bzImage is described in the kernel's Documentation/arch/x86/boot.rst.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_iommufd.errors import Problem

if TYPE_CHECKING:
    from pathlib import Path

_SECTOR = 512
_MAGIC, _MAGIC_AT = b"HdrS", 0x202
_SETUP_SECTORS_AT = 0x1F1  # the header's sectors, but for the first
_SIZE_AT, _SIZE_UNIT = 0x1F4, 16  # what follows the header
_VERSION_AT = 0x20E  # where the release is, counted from the second sector
_LONGEST_VERSION = 256
_HEAD = 0x10000
# What else kernels are kept in: where, the bytes, and what that is.
_OTHERS = (
    (0x38, b"ARM\x64", "a kernel for arm64"),
    (0x38, b"RSC\x05", "a kernel for riscv"),
    (0x00, b"\x7fELF", "an ELF file, such as a vmlinux"),
    (0x04, b"zimg", "an EFI image that unpacks itself, as arm64 and riscv have them"),
    (0x00, b"\x1f\x8b", "compressed by gzip, as kernels for arm64 are"),
)


def release(path: Path) -> str:
    """Read an image's release, and see that it is whole and for this architecture.

    Args:
        path: the image.

    Returns:
        `uname -r` of the kernel, empty when the image does not say.

    Raises:
        Problem: it cannot be read, is truncated or is no bzImage.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
            size = path.stat().st_size
    except OSError as error:
        raise Problem(f"cannot read kernel image {path}: {error.strerror}") from error
    if not head.startswith(_MAGIC, _MAGIC_AT):
        is_a = next((f": {what}" for at, magic, what in _OTHERS if head.startswith(magic, at)), "")
        raise Problem(
            f"not an x86 kernel image: {path}{is_a}",
            expected="a bzImage (a vmlinux does not boot this way)",
            mend="give arch/x86/boot/bzImage of a build, or the source tree",
        )
    whole = (1 + head[_SETUP_SECTORS_AT]) * _SECTOR + _number(head, _SIZE_AT, 4) * _SIZE_UNIT
    if size < whole:
        raise Problem(
            f"the kernel image {path} is truncated: it has {size} bytes",
            expected=f"{whole} bytes, which its header counts",
            mend="copy or build it again",
        )
    at = _number(head, _VERSION_AT, 2)
    if not at:
        return ""
    version = head[at + _SECTOR : at + _SECTOR + _LONGEST_VERSION].partition(b"\0")[0]
    return version.decode(errors="replace").partition(" ")[0]


def _number(head: bytes, at: int, size: int) -> int:
    return int.from_bytes(head[at : at + size], "little")
