# SPDX-License-Identifier: GPL-2.0-only
"""What a struct's fields are called and worth, as the kernel's header has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_iommufd.uapi import Struct
from pytest_iommufd.uapi.tables import MASKS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_iommufd.uapi import Uapi

TEST_CMD = "iommu_test_cmd"


class Structs:
    """The structs of one kernel.

    Args:
        uapi: its header.
    """

    def __init__(self, uapi: Uapi) -> None:
        self._uapi = uapi
        self._commands = {ioctl.number: ioctl.name for ioctl in uapi.commands}

    def command(self, number: int) -> str:
        """Return the name of an ioctl of iommufd, "" for another: drivers share numbers."""
        name = self._commands.get(number, "")
        return name if name.startswith("IOMMU_") else ""

    def op(self, content: bytes) -> str:
        """Return the name of IOMMU_TEST_CMD's operation without IOMMU_TEST_OP_, or ""."""
        given = self._uapi.struct(TEST_CMD).load(content)["op"]
        for name, number in self._uapi.names_of(f"{TEST_CMD}.op").items():
            if number == given:
                return name.removeprefix("IOMMU_TEST_OP_")
        return ""

    def leaves(self, name: str, content: bytes) -> dict[int, tuple[str, int]]:
        """Return path and value of a struct's fields by offset; of a union what is in use."""
        return {
            offset: (path, value)
            for offset, path, value in self._leaves(self._uapi.struct(name).load(content))
        }

    def _leaves(
        self, struct: Struct, prefix: str = "", base: int = 0
    ) -> Iterator[tuple[int, str, int]]:
        is_command = struct.name == TEST_CMD
        member = self._uapi.test_member(struct["op"]) if is_command else ""
        seen = set()
        for name in struct.fields:
            value, offset = struct[name], struct.offset(name)
            if isinstance(value, Struct) and (not is_command or name == member):
                yield from self._leaves(value, f"{prefix}{name}.", base + offset)
            elif isinstance(value, int) and offset not in seen:
                seen.add(offset)  # of a union the first, which is what goes in
                yield base + offset, f"{prefix}{name}", int(value)

    def says_all(self, name: str, content: bytes) -> bool:
        """Tell whether the fields of leaves() are all that is in a struct's bytes."""
        again = bytearray(len(content))
        for offset, (path, value) in self.leaves(name, content).items():
            size = self._uapi.sizeof(name, path)
            again[offset : offset + size] = (value % (1 << 8 * size)).to_bytes(size, "little")
        return bytes(again) == content

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
