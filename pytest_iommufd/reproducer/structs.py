# SPDX-License-Identifier: GPL-2.0-only
"""What a struct's fields are called and worth, as the kernel's header has it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_iommufd.uapi import Struct
from pytest_iommufd.uapi.tables import MASKS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_iommufd.uapi import Ioctl, Uapi

TEST_CMD = "iommu_test_cmd"
# Of the numbers that several VFIO ioctls share, iommufd has these.
_VFIO = re.compile(r"VFIO_(IOMMU_(GET|MAP|UNMAP)_\w+|GET_API_VERSION|CHECK_EXTENSION|SET_IOMMU)")
_POINTER_SIZE = 8


class Structs:
    """The structs of one kernel.

    Args:
        uapi: its header.
    """

    def __init__(self, uapi: Uapi) -> None:
        self._uapi = uapi
        self._ioctls = {
            ioctl.number: ioctl
            for ioctl in uapi.commands
            if ioctl.name.startswith("IOMMU_") or _VFIO.fullmatch(ioctl.name)
        }

    def ioctl(self, number: int) -> Ioctl | None:
        """Return the command of a number."""
        return self._ioctls.get(number)

    def sizeof(self, name: str, path: str = "") -> int:
        """Size of a struct or of a field, bytes."""
        return self._uapi.sizeof(name, path)

    def load(self, name: str, content: bytes) -> Struct:
        """Take bytes for a struct."""
        return self._uapi.struct(name).load(content)

    def op(self, struct: Struct) -> str:
        """Return the name of IOMMU_TEST_CMD's operation without IOMMU_TEST_OP_, or ""."""
        for name, number in self._uapi.names_of(f"{TEST_CMD}.op").items():
            if number == struct["op"]:
                return name.removeprefix("IOMMU_TEST_OP_")
        return ""

    def leaves(self, struct: Struct, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Paths and values of a struct's fields; of a union the member that is in use."""
        is_command = struct.name == TEST_CMD
        member = self._uapi.test_member(struct["op"]) if is_command else ""
        seen = set()
        for name in struct.fields:
            value = struct[name]
            if isinstance(value, Struct) and (not is_command or name == member):
                yield from self.leaves(value, f"{prefix}{name}.")
            elif isinstance(value, int):
                offset = struct.offset(name)
                if offset not in seen:  # of a union the first, which is what goes in
                    yield f"{prefix}{name}", value
                seen.add(offset)

    def says_all(self, name: str, content: bytes) -> bool:
        """Tell whether the fields of leaves() are all that is in a struct's bytes."""
        again = self._uapi.struct(name)
        for path, value in self.leaves(self.load(name, content)):
            *outer, last = path.split(".")
            inner = again
            for part in outer:
                inner = inner[part]
            inner[last] = value
        return bytes(again) == content

    def is_wide(self, name: str, path: str) -> bool:
        """Tell whether a field is as wide as an address."""
        return self.sizeof(name, path) == _POINTER_SIZE

    def names(self, name: str, path: str, value: int) -> str:
        """Return the header's name for a field's value or for its bits, in C; or ""."""
        names = self._uapi.names_of(f"{name}.{path}")
        if path.rpartition(".")[2] not in MASKS:
            return next((known for known, number in names.items() if number == value), "")
        parts = []
        for known, bit in names.items():
            if bit and value & bit == bit:
                parts.append(known)
                value &= ~bit
        return " | ".join([*parts, hex(value)] if parts and value else parts)

    def data_of(self, name: str, content: bytes) -> str:
        """Return the struct that a struct's data_uptr points to, by its type; "" if unknown."""
        kind = next(
            (kind for kind in ("data_type", "type") if self._uapi.has(f"{name}.{kind}")), ""
        )
        if not kind or not self._uapi.has(f"{name}.data_uptr"):
            return ""
        given = self.load(name, content)[kind]
        for constant, number in self._uapi.names_of(f"{name}.{kind}").items():
            guess = re.sub("_(DATA|TYPE)", "", constant).lower()
            if number == given and self._uapi.has(guess):
                return guess
        return ""
