# SPDX-License-Identifier: GPL-2.0-only
"""/dev/iommu in the place of a VFIO container."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_iommufd.iommufd.file import IoctlFile

if TYPE_CHECKING:
    from pytest_iommufd.iommufd.object import DevIommu
    from pytest_iommufd.uapi import Struct


class VfioContainer(IoctlFile):
    """VFIO's ioctls on an open /dev/iommu; the methods have their names without VFIO_.

    Args:
        context: the open file.
    """

    def __init__(self, context: DevIommu) -> None:
        super().__init__(context.process, context.uapi, context.fd)
        self.context = context

    def set_iommu(self, kind: int) -> None:
        """VFIO_SET_IOMMU."""
        __tracebackhide__ = True
        self.ioctl_pointer("VFIO_SET_IOMMU", kind)

    def check_extension(self, extension: int) -> int:
        """VFIO_CHECK_EXTENSION."""
        __tracebackhide__ = True
        return self.ioctl_pointer("VFIO_CHECK_EXTENSION", extension)

    def get_info(self, **fields: Any) -> Struct:
        """VFIO_IOMMU_GET_INFO."""
        __tracebackhide__ = True
        return self.ioctl("VFIO_IOMMU_GET_INFO", **fields)

    def map_dma(self, iova: int, vaddr: Any, size: int, **fields: Any) -> None:
        """VFIO_IOMMU_MAP_DMA for reading and writing, unless flags say otherwise."""
        __tracebackhide__ = True
        flags = self.uapi.VFIO_DMA_MAP_FLAG_READ | self.uapi.VFIO_DMA_MAP_FLAG_WRITE
        given = {"iova": iova, "vaddr": vaddr, "size": size, "flags": flags}
        self.ioctl("VFIO_IOMMU_MAP_DMA", **(given | fields))

    def unmap_dma(self, iova: int, size: int, **fields: Any) -> int:
        """VFIO_IOMMU_UNMAP_DMA; returns how many bytes were unmapped."""
        __tracebackhide__ = True
        given = {"iova": iova, "size": size}
        return int(self.ioctl("VFIO_IOMMU_UNMAP_DMA", **(given | fields))["size"])

    def unmap_all(self, **fields: Any) -> int:
        """VFIO_IOMMU_UNMAP_DMA with the flag ALL."""
        __tracebackhide__ = True
        return self.unmap_dma(0, 0, **({"flags": self.uapi.VFIO_DMA_UNMAP_FLAG_ALL} | fields))
