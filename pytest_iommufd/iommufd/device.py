# SPDX-License-Identifier: GPL-2.0-only
"""Mock devices of the kernel's iommufd_test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, SupportsIndex

from pytest_iommufd.iommufd.hwpt import Hwpt
from pytest_iommufd.iommufd.object import IommufdObject

if TYPE_CHECKING:
    from pytest_iommufd.iommufd.object import DevIommu
    from pytest_iommufd.uapi import Struct, Uapi

# What every iommufd_test.h has as MOCK_APERTURE_START.
_FIRST_IOVA = 1 << 24


def first_iova(uapi: Uapi) -> int:
    """Return the first IOVA that mock devices can use; real ones can use it, too."""
    return int(getattr(uapi, "MOCK_APERTURE_START", _FIRST_IOVA))


class MockDevice(IommufdObject):
    """A mock device, bound to the context; its id is what dev_id wants.

    Attributes:
        selftest: the object that stands for the mock device itself (stdev in the kernel's source).
        hwpt: what it was attached to when it was made: the automatic HWPT of an IOAS.
    """

    def __init__(self, context: DevIommu, device: int, selftest: int, hwpt: int) -> None:
        super().__init__(context, device)
        self.selftest = IommufdObject(context, selftest)
        self.hwpt = Hwpt(context, hwpt)

    def replace(self, pt: SupportsIndex) -> int:
        """MOCK_DOMAIN_REPLACE: attach it to another IOAS or HWPT; returns the HWPT's id."""
        __tracebackhide__ = True
        made = self.context.test(
            "mock_domain_replace", self.selftest, mock_domain_replace={"pt_id": pt}
        )
        return made.mock_domain_replace.pt_id  # type: ignore[no-any-return]

    def get_hw_info(self, **fields: Any) -> Struct:
        """IOMMU_GET_HW_INFO, without a buffer for the driver's data unless one is given."""
        __tracebackhide__ = True
        return self.context.ioctl("IOMMU_GET_HW_INFO", **({"dev_id": self} | fields))

    def pasid_attach(self, pasid: int, pt: SupportsIndex) -> int:
        """PASID_ATTACH: attach one of its PASIDs; returns the HWPT's id."""
        __tracebackhide__ = True
        given = {"pasid": pasid, "pt_id": pt}
        made = self.context.test("pasid_attach", self.selftest, pasid_attach=given)
        self.context.pasids.add((self.selftest.id, pasid))
        return made.pasid_attach.pt_id  # type: ignore[no-any-return]

    def pasid_replace(self, pasid: int, pt: SupportsIndex) -> int:
        """PASID_REPLACE: attach one of its PASIDs to another HWPT; returns the HWPT's id."""
        __tracebackhide__ = True
        given = {"pasid": pasid, "pt_id": pt}
        made = self.context.test("pasid_replace", self.selftest, pasid_replace=given)
        return made.pasid_replace.pt_id  # type: ignore[no-any-return]

    def pasid_detach(self, pasid: int) -> None:
        """PASID_DETACH one of its PASIDs; 0 stands for the device without PASIDs."""
        __tracebackhide__ = True
        self.context.test("pasid_detach", self.selftest, pasid_detach={"pasid": pasid})
        self.context.pasids.discard((self.selftest.id, pasid))

    def pasid_check_hwpt(self, pasid: int, hwpt: SupportsIndex = 0) -> None:
        """PASID_CHECK_HWPT: EINVAL unless the PASID is attached to this HWPT, or for 0 to none."""
        __tracebackhide__ = True
        given = {"pasid": pasid, "hwpt_id": hwpt}
        self.context.test("pasid_check_hwpt", self.selftest, pasid_check=given)

    def destroy(self) -> None:
        """Detach, unbind and destroy it."""
        __tracebackhide__ = True
        self.selftest.destroy()
