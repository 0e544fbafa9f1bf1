# SPDX-License-Identifier: GPL-2.0-only
"""What a device reaches of the memory of an IOAS, and what it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import rule

from .edu import Edu

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.iommufd import Buffer, Ioas

FROM, TO = 0x100_0000, 0x200_0000
TEXT = b"what the device is to copy"
SIZE = len(TEXT)
OLD = b"\xcc" * SIZE


@pytest.fixture
def source(ioas: Ioas, buffer: Buffer, page_size: int) -> Buffer:
    """Memory with a text, mapped at FROM."""
    buffer.write(TEXT)
    ioas.map(buffer, page_size, iova=FROM)
    return buffer


@pytest.fixture
def target(buffers: Callable[..., Buffer], page_size: int) -> Buffer:
    """Memory without that text, mapped nowhere yet."""
    made = buffers(page_size)
    made.write(OLD)
    return made


@rule("vfio_device.dma.write")
@pytest.mark.usefixtures("source")
def test_write(expected, edu, ioas, target):
    with expected:
        ioas.map(target, iova=TO)
    edu.copy(FROM, TO + 8, SIZE)
    assert target.read(8 + SIZE) == OLD[:8] + TEXT


@rule("vfio_device.dma.read")
def test_read(expected, edu, source, ioas, target):
    with expected:
        ioas.map(target, iova=TO)
    for text in (TEXT, TEXT[::-1]):
        source.write(text)
        edu.copy(FROM, TO, SIZE)
        assert target.read(SIZE) == text


@rule("vfio_device.dma.mapped_before")
@pytest.mark.usefixtures("source")
def test_mapped_before_attaching(expected, vfio_device, ioas, target):
    ioas.map(target, iova=TO)
    with expected:
        vfio_device.attach_iommufd_pt(ioas)
    Edu(vfio_device).copy(FROM, TO, SIZE)
    assert target.read(SIZE) == TEXT


@rule("vfio_device.dma.two_devices")
@pytest.mark.usefixtures("source")
def test_two_devices(expected, edu, other_vfio_device, ioas, target, page_size):
    with expected:
        other_vfio_device.attach_iommufd_pt(ioas)
    ioas.map(target, iova=TO)
    edu.copy(FROM, TO, SIZE)
    Edu(other_vfio_device).copy(TO, TO + page_size // 2, SIZE)
    assert target.read(page_size)[page_size // 2 :].startswith(TEXT)


@rule("vfio_device.dma.readonly")
@pytest.mark.usefixtures("source")
def test_readonly(expected, edu, ioas, target, uapi):
    flags = uapi.IOMMU_IOAS_MAP_READABLE | uapi.IOMMU_IOAS_MAP_FIXED_IOVA
    with expected:
        ioas.map(target, iova=TO, flags=flags)
    edu.copy(FROM, TO, SIZE)
    assert target.read(SIZE) == OLD


@rule("vfio_device.dma.unmapped")
@pytest.mark.usefixtures("source")
def test_unmapped(expected, edu, ioas, target):
    ioas.map(target, iova=TO)
    edu.copy(FROM, TO, SIZE)
    target.write(OLD)
    with expected:
        ioas.unmap(TO, target.size)
    edu.store(TO, SIZE)
    assert target.read(SIZE) == OLD


@rule("vfio_device.dma.detached")
@pytest.mark.usefixtures("source")
def test_detached(expected, edu, attached, ioas, target):
    ioas.map(target, iova=TO)
    edu.load(FROM, SIZE)
    with expected:
        attached.detach_iommufd_pt()
    edu.store(TO, SIZE)
    assert target.read(SIZE) == OLD


@rule("vfio_device.dma.replaced")
def test_replaced(expected, edu, attached, source, other_ioas, target):
    other_ioas.map(target, iova=FROM)
    edu.load(FROM, SIZE)
    source.write(OLD)
    with expected:
        attached.attach_iommufd_pt(other_ioas)
    edu.store(FROM, SIZE)
    assert (source.read(SIZE), target.read(SIZE)) == (OLD, TEXT)


@rule("vfio_device.dma.failed_replace")
@pytest.mark.usefixtures("source")
def test_failed_replace(expected, edu, attached, ioas, target, faulting_hwpt):
    ioas.map(target, iova=TO)
    edu.load(FROM, SIZE)
    with expected:
        attached.attach_iommufd_pt(faulting_hwpt)
    edu.store(TO, SIZE)
    text = target.read(SIZE)
    assert text == TEXT, "the device wrote " + ("nothing" if text == OLD else f"{text!r}")
