# SPDX-License-Identifier: GPL-2.0-only
"""What to ask a kernel about: all that its header or another kernel's header declares."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_iommufd.uapi import Uapi


class Headers:
    """The headers whose names a kernel is asked about.

    Numbers of iommufd.h never change their meaning, so that a kernel can be asked about what only
    another kernel's header declares.

    Args:
        own: the kernel's own header, if it has one here.
        others: those of other kernels, the one that suits the kernel best first.

    Attributes:
        own: the same.
        spoken: the header that calls are made with: its own, else the first of the others.
    """

    def __init__(self, own: Uapi | None, others: Iterable[Uapi]) -> None:
        self.own = own
        self._all: tuple[Uapi, ...] = (*((own,) if own else ()), *others)
        self.spoken = self._all[0]

    def of(self, name: str) -> Uapi:
        """Return the first header that has a constant, a struct or a `struct.field`.

        Raises:
            KeyError: no header has it.
        """
        for uapi in self._all:
            if uapi.has(name):
                return uapi
        raise KeyError(name)

    def declared(self, name: str) -> bool | None:
        """Tell whether the kernel's own header has a name; None where it has no header here."""
        return self.own.has(name) if self.own else None

    def commands(self) -> dict[str, int]:
        """Return the commands of iommufd in all headers: their numbers by name, in order."""
        return _merged({ioctl.name: ioctl.number for ioctl in uapi.ioctls} for uapi in self._all)

    def struct(self, command: str) -> str:
        """Return the name of a command's struct, "" where it has none."""
        return self.of(command).ioctl(command).struct

    def fields(self, struct: str) -> dict[str, int]:
        """Return the fields of a struct in all headers: their offsets by name."""
        return _merged(
            {name: uapi.offsetof(struct, name) for name in uapi.fields(struct)}
            for uapi in self._all
            if uapi.has(struct)
        )

    def values(self, path: str) -> dict[str, int]:
        """Return the values of a field in all headers: numbers by name, the lowest first.

        Args:
            path: the field, `iommu_ioas_map.flags`.
        """
        return _merged(uapi.names_of(path) for uapi in self._all)


def _merged(numbers: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Put the numbers of several headers together, the lowest first; of a name the first counts."""
    found: dict[str, int] = {}
    for one in numbers:
        found = {**one, **found}
    return dict(sorted(found.items(), key=lambda item: item[1]))
