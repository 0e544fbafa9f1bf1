# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel's iommufd.h has that none of the headers has which the suites were written for."""

from __future__ import annotations

import enum
import functools
from typing import TYPE_CHECKING

from pytest_iommufd.uapi.abi import Uapi
from pytest_iommufd.uapi.tables import DESCRIBED_OF_SERIES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Kind(enum.Enum):
    """What a name of the header is."""

    COMMAND = "command"
    BARE_COMMAND = "command without a struct of its name"
    STRUCT = "struct"
    FIELD = "field"
    FLAG = "flag"
    VALUE = "value"


@functools.cache
def undescribed(uapi: Uapi) -> Mapping[str, Kind]:
    """Return the names of a kernel's iommufd.h that no shipped header has, and what they are.

    A field is `struct.field`. A new command stands for its struct, and a new struct for its
    fields. Reserved fields need no description: their names say what they are.
    """
    return {name: kind for name, kind in _names(uapi) if not is_described(name)}


def is_described(name: str) -> bool:
    """Tell whether a shipped header has a constant, a struct or a `struct.field`."""
    return name in DESCRIBED_OF_SERIES or any(uapi.has(name) for uapi in Uapi.shipped())


def _names(uapi: Uapi) -> Iterator[tuple[str, Kind]]:
    for ioctl in uapi.ioctls:
        yield ioctl.name, Kind.COMMAND if ioctl.struct else Kind.BARE_COMMAND
    of_commands = {ioctl.struct for ioctl in uapi.ioctls}
    for struct in filter(uapi.is_of_iommufd, uapi.structs):
        if not is_described(struct):
            if struct not in of_commands:
                yield struct, Kind.STRUCT
            continue
        for field in uapi.fields(struct):
            if not field.startswith("__reserved"):
                yield f"{struct}.{field}", Kind.FIELD
    for name in filter(uapi.is_of_iommufd, uapi.constants):
        # the numbers that commands are made of stand for these
        if not name.startswith("IOMMUFD_CMD_"):
            yield name, Kind.FLAG if uapi.is_flag(name) else Kind.VALUE
