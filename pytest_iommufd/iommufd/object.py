# SPDX-License-Identifier: GPL-2.0-only
"""What every object of a context has: an id, and an end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, SupportsIndex

from pytest_iommufd.given import Given
from pytest_iommufd.iommufd.file import IoctlFile
from pytest_iommufd.iommufd.together import known

if TYPE_CHECKING:
    from pytest_iommufd.iommufd.fault import FaultQueue
    from pytest_iommufd.uapi import Struct

DEVICE = "/dev/iommu"


class DevIommu(IoctlFile):
    """An open /dev/iommu as its objects need it; a Context is one that makes objects.

    Attributes:
        pasids: the PASIDs that are attached, each with the mock device's object id.
        fault_queues: those that were allocated.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.pasids: set[tuple[int, int]] = set()
        self.fault_queues: list[FaultQueue] = []

    def destroy(self, target: SupportsIndex, **fields: Any) -> None:
        """IOMMU_DESTROY an object."""
        __tracebackhide__ = True
        self.ioctl("IOMMU_DESTROY", **{"id": target.__index__(), **fields})

    def test(self, op: str, target: SupportsIndex = 0, /, **fields: Any) -> Struct:
        """IOMMU_TEST_CMD: an operation of the kernel's iommufd_test.

        Args:
            op: its name without IOMMU_TEST_OP_, in any case.
            target: the object it is about (the struct's id).
            fields: any field.
        """
        __tracebackhide__ = True
        number = getattr(self.uapi, f"IOMMU_TEST_OP_{op.upper()}")
        return self.ioctl("IOMMU_TEST_CMD", **{"op": number, "id": target, **fields})


class IommufdObject:
    """An object in a context, known by its id. Where a field wants an id, it may be given.

    Attributes:
        context: where it lives.
    """

    def __init__(self, context: DevIommu, object_id: int) -> None:
        self.context = context
        self._id = object_id

    @property
    def id(self) -> int:
        """Its object id."""
        if not self._id and isinstance(self._id, Given):
            together = self.context.together
            if not together.collecting:
                self.context.process.settle()
            self._id = known(self._id)
        return self._id

    @id.setter  # noqa: A003 - the kernel's name
    def id(self, number: int) -> None:
        self._id = number

    def __index__(self) -> int:
        return self.id

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    def destroy(self) -> None:
        """IOMMU_DESTROY it.

        Raises:
            IoctlError: EBUSY while something uses it, ENOENT when it is gone.
        """
        self.context.destroy(self)
