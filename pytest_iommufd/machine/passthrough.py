# SPDX-License-Identifier: GPL-2.0-only
"""PCI devices that tests take from the kernel through vfio-pci."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_iommufd.agent.protocol import Program
from pytest_iommufd.errors import Problem
from pytest_iommufd.machine.process import AT_FDCWD

if TYPE_CHECKING:
    from pytest_iommufd.machine.machine import Machine
    from pytest_iommufd.machine.process import Process

_PCI = "/sys/bus/pci"
_DRIVER = "vfio-pci"
_FILES = "/dev/vfio/devices"
_LINK_SIZE = 4096
# The attributes of each IOMMU, by which its driver is known: a folder in its sysfs device.
_DRIVERS = {"intel-iommu": "intel", "amd-iommu": "amd"}


@dataclass(frozen=True)
class Node:
    """A device that can be bound to an iommufd.

    Attributes:
        address: its PCI address.
        path: its file in /dev/vfio/devices.
        group: the number of its IOMMU group.
        driver: of its IOMMU: "intel", "amd", or "" when it is another.
    """

    address: str
    path: str
    group: int
    driver: str

    @property
    def iommu(self) -> str:
        """The folder of its IOMMU in /sys."""
        return f"{_PCI}/devices/{self.address}/iommu"


class UnavailableError(Exception):
    """The kernel has no device to take; the message says why."""


def nodes(machine: Machine) -> tuple[Node, ...]:
    """Have vfio-pci take the machine's devices, where that is allowed, and find their files.

    Args:
        machine: that serves.

    Raises:
        UnavailableError: there are none, or this kernel cannot give them.
        Problem: a device of this machine was named that is not bound to vfio-pci.
    """
    if not machine.pci_devices:
        raise UnavailableError("no PCI device is given to the tests: --iommufd-iommu intel or amd")
    process = machine.process()
    try:
        if machine.binds and not interrupts_are_isolated(process):
            allow_unsafe_interrupts(process)
        return tuple(_node(process, address, machine) for address in machine.pci_devices)
    finally:
        process.end()


def interrupts_are_isolated(process: Process) -> bool:
    """Whether the kernel remaps interrupts, so that a device raises none but its own."""
    return b" IR-" in process.read_file("/proc/interrupts")


def allow_unsafe_interrupts(process: Process, *, allow: bool = True) -> None:
    """Have iommufd take devices whose interrupts are not isolated, or no more.

    Linux does not remap interrupts on the IOMMU of AMD that QEMU emulates: it looks for a south
    bridge that QEMU's machine has elsewhere.
    """
    with contextlib.suppress(FileNotFoundError):  # binding a device will tell
        process.write_file(
            "/sys/module/iommufd/parameters/allow_unsafe_interrupts", b"Y" if allow else b"N"
        )


def _node(process: Process, address: str, machine: Machine) -> Node:
    device = f"{_PCI}/devices/{address}"
    if machine.binds:
        _bind(process, address)
    names = _names(process, f"{device}/vfio-dev")
    if not names and machine.binds:
        raise UnavailableError(f"{_DRIVER} did not take {address}: the kernel uses no IOMMU for it")
    # VFIO numbers its devices, with or without files for them
    files = set(names) & set(_names(process, _FILES))
    if not files and machine.binds:
        raise UnavailableError(f"the kernel has no {_FILES}: CONFIG_VFIO_DEVICE_CDEV=y brings it")
    if not files:
        raise Problem(
            f"--iommufd-vfio {address}: no such device is bound to {_DRIVER}, with "
            "CONFIG_VFIO_DEVICE_CDEV",
            expected="a PCI device that nothing else uses, bound to vfio-pci by hand",
            mend=f"echo {_DRIVER} > {device}/driver_override, then its address to "
            f"{device}/driver/unbind and to {_PCI}/drivers_probe",
        )
    link = _read_link(process, f"{device}/iommu_group")
    attributes = process.list_folder(f"{device}/iommu")
    driver = next((_DRIVERS[name] for name in attributes if name in _DRIVERS), "")
    return Node(address, f"{_FILES}/{names[0]}", int(link.rpartition("/")[2]), driver)


def _names(process: Process, folder: str) -> list[str]:
    try:
        return process.list_folder(folder)
    except OSError:
        return []


def _bind(process: Process, address: str) -> None:
    try:
        process.write_file(f"{_PCI}/devices/{address}/driver_override", _DRIVER.encode())
        process.list_folder(f"{_PCI}/drivers/{_DRIVER}")
        process.write_file(f"{_PCI}/drivers_probe", address.encode())
    except OSError as error:
        raise UnavailableError(
            f"the kernel cannot give {address} to {_DRIVER}: {error.strerror} ({error.filename})"
        ) from None


def _read_link(process: Process, path: str) -> str:
    name = path.encode() + b"\0"
    at = process.arena + _LINK_SIZE
    program = Program()
    program.write(process.arena, name)
    program.syscall("readlinkat", AT_FDCWD, process.arena, at, _LINK_SIZE)
    program.read(at, _LINK_SIZE)
    _, got, content = process.run(program, during=f"reading the link {path}")
    if got.errno:
        raise OSError(got.errno, os.strerror(got.errno), path)
    return content.data[: got.ret].decode()
