# SPDX-License-Identifier: GPL-2.0-only
"""Mock devices of the kernel's iommufd_test."""

from __future__ import annotations

from typing import TYPE_CHECKING, SupportsIndex

from pytest_iommufd.iommufd.hwpt import Hwpt
from pytest_iommufd.iommufd.object import IommufdObject

if TYPE_CHECKING:
    from pytest_iommufd.iommufd.context import Context


class MockDevice(IommufdObject):
    """A mock device, bound to the context; its id is what dev_id wants.

    Attributes:
        selftest: the object that stands for the mock device itself (stdev in the kernel's source).
        hwpt: what it was attached to when it was made: the automatic HWPT of an IOAS.
    """

    def __init__(self, context: Context, device: int, selftest: int, hwpt: int) -> None:
        super().__init__(context, device)
        self.selftest = IommufdObject(context, selftest)
        self.hwpt = Hwpt(context, hwpt)

    def replace(self, pt: SupportsIndex) -> int:
        """MOCK_DOMAIN_REPLACE: attach it to another IOAS or HWPT; returns the HWPT's id."""
        __tracebackhide__ = True
        made = self.context.test(
            "mock_domain_replace", self.selftest, mock_domain_replace={"pt_id": pt.__index__()}
        )
        return int(made.mock_domain_replace.pt_id)

    def destroy(self) -> None:
        """Detach, unbind and destroy it."""
        __tracebackhide__ = True
        self.selftest.destroy()
