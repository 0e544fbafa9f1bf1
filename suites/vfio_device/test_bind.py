# SPDX-License-Identifier: GPL-2.0-only
"""VFIO_DEVICE_BIND_IOMMUFD: a device's file and a context."""

from __future__ import annotations

import struct
from errno import EBADFD, EFAULT, EINVAL
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import raises_errno, rule
from pytest_iommufd.iommufd import VfioDevice
from pytest_iommufd.machine import passthrough

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_iommufd.iommufd import Context
    from pytest_iommufd.machine import Process
    from pytest_iommufd.uapi import Uapi

LENGTH = 16  # through out_devid
TOKEN = 1
NULL = 0


@pytest.fixture
def unwritable_bind(
    vfio_file: VfioDevice, uapi: Uapi, readonly: Callable[[bytes], int]
) -> Callable[[], None]:
    """Binds the device by a struct that cannot be written."""

    def call() -> None:
        kind = "vfio_device_bind_iommufd"
        fd = vfio_file.context.fd
        given = uapi.struct(kind, argsz=uapi.sizeof(kind), iommufd=fd)
        vfio_file.ioctl_pointer("VFIO_DEVICE_BIND_IOMMUFD", readonly(bytes(given)))

    return call


@pytest.fixture
def isolation_wanted(process: Process) -> Iterator[None]:
    """Has iommufd refuse devices whose interrupts are not isolated, as it does by default."""
    passthrough.allow_unsafe_interrupts(process, allow=False)
    yield
    passthrough.allow_unsafe_interrupts(process)


@rule("vfio_device.bind")
def test_bind(expected, vfio_file):
    with expected:
        vfio_file.bind_iommufd()
    assert vfio_file.get_hw_info().dev_id == vfio_file.id > 0


# ---- the struct ----


@rule("vfio_device.bind.argsz")
@pytest.mark.parametrize("argsz", [0, 1, 4, 8, LENGTH - 4, LENGTH - 1])
def test_argsz_too_short(expected, vfio_file, argsz):
    with expected:
        vfio_file.bind_iommufd(argsz=argsz)


@rule("vfio_device.bind.tail")
@pytest.mark.parametrize("tail", [b"\x01", bytes(7) + b"\x80", b"\xff" * 64])
def test_tail(expected, vfio_file, tail):
    with expected, vfio_file.sending(tail=tail):
        vfio_file.bind_iommufd()


@rule("vfio_device.bind.tail.zero")
@pytest.mark.parametrize("length", [1, 8, 1000])
def test_tail_of_zeroes(expected, vfio_file, length):
    with expected, vfio_file.sending(tail=bytes(length)):
        vfio_file.bind_iommufd()


@rule("vfio_device.bind.pointer")
def test_unreadable_struct(expected, vfio_file, process, unmapped):
    process.write(unmapped - 8, struct.pack("<II", LENGTH, 0))
    for pointer in (NULL, unmapped, unmapped - 8):
        with expected:
            vfio_file.ioctl_pointer("VFIO_DEVICE_BIND_IOMMUFD", pointer)


@rule("vfio_device.bind.flags")
@pytest.mark.parametrize("flags", [2, 4, 1 << 31, 0xFFFF_FFFE], ids=hex)
def test_unknown_flag(expected, vfio_file, flags):
    with expected:
        vfio_file.bind_iommufd(flags=flags)


@rule("vfio_device.bind.token")
def test_token(expected, vfio_file, iommufd):
    token = iommufd.put(b"\x5e" * 16)
    with expected:
        vfio_file.bind_iommufd(flags=TOKEN, token_uuid_ptr=token)


@rule("vfio_device.bind.token.pointer")
def test_unreadable_token(expected, vfio_file, unmapped):
    for pointer in (NULL, unmapped, unmapped - 8):
        with expected:
            vfio_file.bind_iommufd(flags=TOKEN, token_uuid_ptr=pointer)


# ---- the context ----


@rule("vfio_device.bind.iommufd.negative")
@pytest.mark.parametrize("fd", [-1, -(1 << 31)])
def test_negative_descriptor(expected, vfio_file, fd):
    with expected:
        vfio_file.bind_iommufd(iommufd=fd)


@rule("vfio_device.bind.iommufd.closed")
def test_closed_descriptor(expected, vfio_file, other_iommufd):
    fd = other_iommufd.fd
    other_iommufd.close()
    with expected:
        vfio_file.bind_iommufd(iommufd=fd)


@rule("vfio_device.bind.iommufd.other")
def test_descriptor_of_something_else(expected, vfio_file, process):
    for fd in (vfio_file.fd, process.open("/dev/null")):
        with expected:
            vfio_file.bind_iommufd(iommufd=fd)


@rule("vfio_device.bind.isolation")
@pytest.mark.usefixtures("isolation_wanted")
def test_interrupts_that_are_not_isolated(expected, vfio_file):
    with expected:
        vfio_file.bind_iommufd()


# ---- more than once ----


@rule("vfio_device.bind.twice")
def test_bound_file(expected, vfio_device, other_iommufd):
    for context in (vfio_device.context, other_iommufd):
        with expected:
            vfio_device.bind_iommufd(context)


@rule("vfio_device.bind.second_file")
def test_second_file(expected, vfio_device, other_iommufd):
    second = VfioDevice(vfio_device.context, vfio_device.node)
    for context in (vfio_device.context, other_iommufd):
        with expected:
            second.bind_iommufd(context)


@rule("vfio_device.bind.unwritable")
def test_unwritable_struct(expected, vfio_file, unwritable_bind):
    with expected:
        unwritable_bind()
    with raises_errno(EINVAL):
        vfio_file.detach_iommufd_pt()


@rule("vfio_device.bind.after_failure")
def test_after_failures(expected, vfio_file, other_iommufd, unwritable_bind):
    with raises_errno(EFAULT):
        unwritable_bind()
    with raises_errno(EBADFD):
        vfio_file.bind_iommufd(iommufd=vfio_file.fd)
    with expected:
        vfio_file.bind_iommufd(other_iommufd)


@rule("vfio_device.bind.again")
def test_again(expected, vfio_device, other_iommufd, ioas):
    vfio_device.attach_iommufd_pt(ioas)
    for context in (vfio_device.context, other_iommufd):
        vfio_device.close()
        vfio_device = VfioDevice(context, vfio_device.node)
        with expected:
            vfio_device.bind_iommufd()


@rule("vfio_device.bind.two_contexts")
def test_two_contexts(expected, vfio_device, vfio_nodes, other_iommufd):
    others = (node for node in vfio_nodes if node.group != vfio_device.node.group)
    other = VfioDevice(other_iommufd, next(others))
    with expected:
        other.bind_iommufd()
    other.attach_iommufd_pt(other_iommufd.ioas_alloc())


@rule("vfio_device.unbound")
@pytest.mark.parametrize(
    "name", ["ATTACH_IOMMUFD_PT", "DETACH_IOMMUFD_PT", "GET_INFO", "RESET", "FEATURE"]
)
def test_unbound_file(expected, vfio_file, name):
    with expected:
        vfio_file.ioctl_pointer(f"VFIO_DEVICE_{name}")


# ---- devices that share an IOMMU group ----


@pytest.fixture
def split_group(
    group_mates: tuple[VfioDevice, VfioDevice],
    other_iommufd: Context,
) -> tuple[VfioDevice, VfioDevice]:
    """A bound device, and another of its group that another context has opened."""
    first, second = group_mates
    second.close()
    return first, VfioDevice(other_iommufd, second.node)


@rule("vfio_device.group.other_context")
def test_group_in_two_contexts(expected, split_group):
    with expected:
        split_group[1].bind_iommufd()


@rule("vfio_device.group.other_context.later")
def test_group_in_another_context_later(expected, split_group):
    split_group[0].close()
    with expected:
        split_group[1].bind_iommufd()
