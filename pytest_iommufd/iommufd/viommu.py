# SPDX-License-Identifier: GPL-2.0-only
"""Virtual IOMMUs, and what is made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_iommufd.iommufd.object import IommufdObject
from pytest_iommufd.iommufd.veventq import Veventq

if TYPE_CHECKING:
    from typing import Any, SupportsIndex


class Viommu(IommufdObject):
    """A slice of a physical IOMMU; nested HWPTs can be made from it."""

    def vdevice_alloc(
        self, device: SupportsIndex, virt_id: int = 0x99, **fields: Any
    ) -> IommufdObject:
        """IOMMU_VDEVICE_ALLOC: give a device an id of the vIOMMU's."""
        __tracebackhide__ = True
        given: dict[str, Any] = {"viommu_id": self, "dev_id": device, "virt_id": virt_id}
        struct = self.context.make("IOMMU_VDEVICE_ALLOC", **(given | fields))
        return IommufdObject(self.context, struct.out_vdevice_id)

    def hw_queue_alloc(
        self, iova: int, length: int, index: int = 0, **fields: Any
    ) -> IommufdObject:
        """IOMMU_HW_QUEUE_ALLOC a queue in memory of the guest, of the mock driver's type."""
        __tracebackhide__ = True
        given: dict[str, Any] = {
            "viommu_id": self,
            "type": self.context.uapi.IOMMU_HW_QUEUE_TYPE_SELFTEST,
            "index": index,
            "nesting_parent_iova": iova,
            "length": length,
        }
        struct = self.context.ioctl("IOMMU_HW_QUEUE_ALLOC", **(given | fields))
        return IommufdObject(self.context, struct.out_hw_queue_id)

    def veventq_alloc(self, depth: int = 2, **fields: Any) -> Veventq:
        """IOMMU_VEVENTQ_ALLOC a queue of the mock driver's events."""
        __tracebackhide__ = True
        given: dict[str, Any] = {"viommu_id": self, "veventq_depth": depth}
        if "type" not in fields:
            given["type"] = self.context.uapi.IOMMU_VEVENTQ_TYPE_SELFTEST
        struct = self.context.ioctl("IOMMU_VEVENTQ_ALLOC", **(given | fields))
        return Veventq(self.context, struct.out_veventq_id, struct.out_veventq_fd)
