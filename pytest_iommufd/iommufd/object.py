# SPDX-License-Identifier: GPL-2.0-only
"""What every object of a context has: an id, and an end."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_iommufd.iommufd.context import Context


class IommufdObject:
    """An object in a context, known by its id. Where a field wants an id, it may be given.

    Attributes:
        context: where it lives.
        id: its object id.
    """

    def __init__(self, context: Context, object_id: int) -> None:
        self.context = context
        self.id = object_id

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
