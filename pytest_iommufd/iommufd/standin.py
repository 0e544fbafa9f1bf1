# SPDX-License-Identifier: GPL-2.0-only
"""Real devices in the place of mock ones, for kernels without iommufd_test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, SupportsIndex

from pytest_iommufd.iommufd.device import MockDevice
from pytest_iommufd.iommufd.hwpt import Hwpt
from pytest_iommufd.iommufd.object import IommufdObject
from pytest_iommufd.iommufd.vfio_device import VfioDevice

if TYPE_CHECKING:
    from pytest_iommufd.iommufd.object import DevIommu
    from pytest_iommufd.machine.passthrough import Node


class StandInError(Exception):
    """No real device can do what is asked of a mock one; the message says why."""


class StandIns(Protocol):
    """Where real devices in the place of mock ones come from."""

    def take(self, context: DevIommu, pt: SupportsIndex) -> StandIn:
        """Bind another device to a context, and attach it to an IOAS or HWPT.

        Raises:
            StandInError: there is no other device.
        """

    def check(self, flags: int) -> None:
        """Look whether the devices' IOMMU supports what a HWPT's flags want.

        Raises:
            StandInError: it does not, as its registers tell.
        """


class StandIn(MockDevice):
    """A real device, bound to the context, with what mock devices have.

    Args:
        context: what to bind it to.
        node: the device.

    Attributes:
        file: the device's file.
        hwpt: what it was attached to first: the automatic HWPT of an IOAS.
    """

    def __init__(self, context: DevIommu, node: Node) -> None:
        self.file = VfioDevice(context, node)
        IommufdObject.__init__(self, context, self._bind())

    def _bind(self) -> int:
        """VFIO_DEVICE_BIND_IOMMUFD aside: of a mock device's calls a rule judges the attaching."""
        uapi, process = self.file.uapi, self.file.process
        bind = uapi.ioctl("VFIO_DEVICE_BIND_IOMMUFD")
        given = uapi.struct(bind.struct, iommufd=self.file.context.fd)
        given["argsz"] = given.sizeof
        at = self.file.put(bytes(given))
        process.checked("ioctl", self.file.fd, bind.number, at)
        return int(given.load(process.read(at, given.sizeof)).out_devid)

    def attach(self, pt: SupportsIndex) -> None:
        """VFIO_DEVICE_ATTACH_IOMMUFD_PT to the first IOAS or HWPT."""
        __tracebackhide__ = True
        self.hwpt = Hwpt(self.context, self.replace(pt))

    @property
    def selftest(self) -> IommufdObject:  # type: ignore[override]
        """Nothing: a mock device's own object."""
        raise StandInError("a real device does not have the object of a mock device")

    def replace(self, pt: SupportsIndex) -> int:
        """VFIO_DEVICE_ATTACH_IOMMUFD_PT to another IOAS or HWPT; returns the HWPT's id."""
        __tracebackhide__ = True
        return self.file.attach_iommufd_pt(pt)

    def destroy(self) -> None:
        """Close its file, which detaches and unbinds it."""
        self.file.close()
