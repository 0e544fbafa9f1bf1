# SPDX-License-Identifier: GPL-2.0-only
"""An open /dev/iommu, and its ioctls."""

from __future__ import annotations

from errno import ENOTTY
from typing import TYPE_CHECKING, Any, SupportsIndex

from pytest_iommufd.agent.protocol import Program
from pytest_iommufd.iommufd.device import MockDevice
from pytest_iommufd.iommufd.fault import FaultQueue
from pytest_iommufd.iommufd.hwpt import Hwpt
from pytest_iommufd.iommufd.ioas import Ioas
from pytest_iommufd.iommufd.object import DEVICE, DevIommu
from pytest_iommufd.iommufd.viommu import Viommu

if TYPE_CHECKING:
    from pytest_iommufd.iommufd.hwpt import UserData
    from pytest_iommufd.iommufd.standin import StandIns
    from pytest_iommufd.iommufd.together import Together
    from pytest_iommufd.machine import Process
    from pytest_iommufd.uapi import Uapi


class Context(DevIommu):
    """One open /dev/iommu: a set of objects that lives until it is closed.

    The methods are the ioctls by their names in lower case; each takes every field of its struct
    by keyword, `size` included. They raise IoctlError. They do not test what they send: that is
    the kernel's part.

    Args:
        process: who opens it.
        uapi: the kernel's structs.
        together: see IoctlFile.

    Attributes:
        stand_ins: where mock_device() takes real devices from; None with mock devices.
    """

    def __init__(self, process: Process, uapi: Uapi, together: Together | None = None) -> None:
        super().__init__(process, uapi, DEVICE, together=together)
        self.stand_ins: StandIns | None = None

    def has(self, name: str) -> bool:
        """Tell whether the kernel has an ioctl: one that it lacks gives ENOTTY."""
        if not self.uapi.has(name):
            return False
        program = Program(aside=True)
        zeroes = self.put(bytes(8), program)
        call = program.syscall("ioctl", self.fd, self.uapi.ioctl(name).number, zeroes)
        return self.process.run(program)[call.index].errno != ENOTTY

    def ioas_alloc(self, **fields: Any) -> Ioas:
        """IOMMU_IOAS_ALLOC an I/O address space."""
        __tracebackhide__ = True
        return Ioas(self, self.make("IOMMU_IOAS_ALLOC", **fields).out_ioas_id)

    def hwpt_alloc(
        self,
        device: SupportsIndex,
        pt: SupportsIndex,
        data: UserData | None = None,
        **fields: Any,
    ) -> Hwpt:
        """IOMMU_HWPT_ALLOC a hardware page table.

        Args:
            device: the device whose driver makes it (dev_id).
            pt: the IOAS, parent HWPT or vIOMMU it is made from (pt_id).
            data: type and content of the driver's data, for data_type, data_len, data_uptr.
            fields: any field, in place of what follows from the above; data_type is
                the struct's hwpt_type where it has that.
        """
        __tracebackhide__ = True
        given: dict[str, Any] = {"dev_id": device, "pt_id": pt}
        if data is not None:
            given |= {"data_type": data.type, "data_len": len(data.content)}
            given["data_uptr"] = data.content
        given |= fields
        if "data_type" in given and not self.uapi.has("iommu_hwpt_alloc.data_type"):
            given["hwpt_type"] = given.pop("data_type")
        if isinstance(device, MockDevice) and self.stand_ins:
            self.stand_ins.check(given.get("flags", 0))
        struct = self.make("IOMMU_HWPT_ALLOC", **given)
        return Hwpt(self, struct.out_hwpt_id)

    def fault_queue_alloc(self, **fields: Any) -> FaultQueue:
        """IOMMU_FAULT_QUEUE_ALLOC a queue of I/O page faults."""
        __tracebackhide__ = True
        struct = self.ioctl("IOMMU_FAULT_QUEUE_ALLOC", **fields)
        queue = FaultQueue(self, struct.out_fault_id, struct.out_fault_fd)
        self.fault_queues.append(queue)
        return queue

    def viommu_alloc(self, device: SupportsIndex, parent: SupportsIndex, **fields: Any) -> Viommu:
        """IOMMU_VIOMMU_ALLOC a virtual IOMMU, of the mock driver's type unless told otherwise."""
        __tracebackhide__ = True
        given: dict[str, Any] = {"dev_id": device, "hwpt_id": parent}
        if "type" not in fields:
            given["type"] = self.uapi.IOMMU_VIOMMU_TYPE_SELFTEST
        struct = self.make("IOMMU_VIOMMU_ALLOC", **(given | fields))
        return Viommu(self, struct.out_viommu_id)

    def mock_device(self, pt: SupportsIndex, flags: int = 0) -> MockDevice:
        """Make a mock device and attach it to an IOAS or HWPT.

        Args:
            pt: what to attach it to; an IOAS gets a HWPT made for it.
            flags: MOCK_FLAGS_DEVICE_*.
        """
        __tracebackhide__ = True
        if self.stand_ins and not flags:
            return self.stand_ins.take(self, pt)
        op, given = "mock_domain", {}
        if flags:
            op, given = "mock_domain_flags", {"mock_domain_flags": {"dev_flags": flags}}
        number = getattr(self.uapi, f"IOMMU_TEST_OP_{op.upper()}")
        out = self.make("IOMMU_TEST_CMD", op=number, id=pt, **given)[op]
        return MockDevice(self, out.out_idev_id, out.out_stdev_id, out.out_hwpt_id)
