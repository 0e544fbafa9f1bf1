# SPDX-License-Identifier: GPL-2.0-only
"""Where the numbers in structs came from: ids, file descriptors and IOVAs of earlier calls."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_iommufd.reproducer.structs import TEST_CMD
from pytest_iommufd.reproducer.values import Number, Out, Place, Record, Size, variable_of

if TYPE_CHECKING:
    from pytest_iommufd.reproducer.structs import Structs
    from pytest_iommufd.reproducer.values import Space, Value
    from pytest_iommufd.uapi import Struct

_U64 = (1 << 64) - 1
_PAGE = 4096
# Numbers that look like an address of a mapping.
_LEAST_ADDRESS, _LAST_ADDRESS = 1 << 40, 1 << 47
# The operations of IOMMU_TEST_CMD whose id is an access's file descriptor.
_ACCESS_OPS = ("ACCESS_PAGES", "ACCESS_RW", "ACCESS_REPLACE_IOAS", "DESTROY_ACCESS_PAGES")
# Fields that look like an object's id and are something else.
_NO_IDS = {"check_iotlb.id", "check_dev_cache.id", "virt_id", "vdev_id", "cache_id", "iotlb_id"}
_PAGES_IDS = "access_pages_id"  # numbers of their own
# Where the kernel puts the IOVA that it has chosen.
_CHOSEN = {
    "iommu_ioas_map": "iova",
    "iommu_ioas_map_file": "iova",
    "iommu_ioas_copy": "dst_iova",
}


class Origins:
    """What the calls so far gave.

    Args:
        structs: the kernel's.

    Attributes:
        addresses: whether a number looks like an address and came from nowhere: it is near one.
    """

    def __init__(self, structs: Structs) -> None:
        self.addresses = False
        self._structs = structs
        self._ids: dict[tuple[str, int], Out] = {}
        self._iovas: list[tuple[int, int, Out]] = []
        self._offsets: dict[int, Out] = {}

    # ---- what a call gave ----

    def note(self, record: Record, after: Struct, path: str, value: int, space: Space) -> bool:
        """Take note of a field that the kernel wrote.

        Args:
            record: the struct.
            after: with what the kernel wrote.
            path: the field.
            value: its value.
            space: of the process.

        Returns:
            Whether the field is an id, a file, an IOVA or such, so that its value may differ.
        """
        name = path.rpartition(".")[2]
        out = Out(record, path, value)
        if _is_id(name, path):
            kind = _PAGES_IDS if name.endswith(_PAGES_IDS) else ""
            # the newest last: an id that is free is given again
            self._ids.pop((kind, value), None)
            self._ids[kind, value] = out
        elif name.endswith("fd"):
            space.files[value] = out
        elif _CHOSEN.get(record.type) == path:
            self._iovas.append((value, int(after["length"]), out))
        elif name.endswith("mmap_offset"):
            self._offsets[value] = out
        else:
            return False
        return True

    # ---- what a call is given ----

    def argument(self, value: int, space: Space) -> Value:
        """Return an argument of a system call: an address, or a number."""
        value &= _U64
        found = space.place(value) if value > _PAGE else None
        if found and space.knows(found.memory):
            return found
        return self._number(value - (1 << 64) if value >> 63 else value, wide=value > _PAGE)

    def offset(self, value: int) -> Value | None:
        """Return where an offset for mmap() came from."""
        return self._offsets.get(value)

    def fields(self, record: Record, space: Space) -> list[tuple[str, Value]]:
        """Return the fields of a struct that are not zero."""
        struct = self._structs.load(record.type, record.content[: record.size])
        found = {
            path: self._field(record, struct, path, value, space)
            for path, value in self._structs.leaves(struct)
            if value
        }
        data = found.get("data_uptr")
        if (
            isinstance(data, Place)
            and isinstance(data.memory, Record)
            and found.get("data_len") == Number(data.memory.size)
        ):
            found["data_len"] = Size(data.memory)
        return list(found.items())

    def _field(self, record: Record, struct: Struct, path: str, value: int, space: Space) -> Value:
        name = path.rpartition(".")[2]
        if name in ("size", "argsz") and value == record.size + len(record.tail):
            return Size(record)
        wide = self._structs.is_wide(record.type, path)
        found: Value | None = None
        if wide and name.endswith("iova"):
            found = self._iova(value, space)
        elif wide and value > _PAGE and not name.startswith("__"):
            found = space.place(value) or (self.offset(value) if "offset" in name else None)
        elif name.endswith("fd") or self._is_access(struct, path):
            found = space.files.get(value)
        elif _is_id(name, path):
            found = self._id(name, value, space)
        if found is not None and _known(found, space):
            return found
        return self._number(value, self._structs.names(record.type, path, value), wide=wide)

    def _is_access(self, struct: Struct, path: str) -> bool:
        return struct.name == TEST_CMD and path == "id" and self._structs.op(struct) in _ACCESS_OPS

    def _number(self, value: int, names: str = "", *, wide: bool) -> Number:
        self.addresses |= wide and _LEAST_ADDRESS <= value < _LAST_ADDRESS
        return Number(value, names, wide)

    def _id(self, name: str, value: int, space: Space) -> Value | None:
        kind = _PAGES_IDS if name.endswith(_PAGES_IDS) else ""
        found = self._ids.get((kind, value))
        return found if found and _known(found, space) else None

    def _iova(self, value: int, space: Space) -> Value | None:
        for start, length, out in reversed(self._iovas):
            if start <= value <= start + length and _known(out, space):
                return replace(out, offset=value - start)
        return None


def _is_id(name: str, path: str) -> bool:
    return (name == "id" or name.endswith("_id")) and not {name, path} & _NO_IDS


def _known(value: Value, space: Space) -> bool:
    variable = variable_of(value)
    return variable is None or space.knows(variable)
