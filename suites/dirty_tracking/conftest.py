# SPDX-License-Identifier: GPL-2.0-only
"""Memory that is mapped for a HWPT with dirty tracking, and a bitmap to tell of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from pytest_iommufd.iommufd import Buffer, Context, Hwpt, HwptData, Ioas, MockDevice
    from pytest_iommufd.rules.expectation import Expectation
    from pytest_iommufd.uapi import Uapi

PAGE = 4096
MOCK_PAGE = 2048
MOST = 1 << 27  # bits that iommufd_test's DIRTY takes
BITMAP_SIZE = 16 * PAGE
_HUGE_IOVA = 2  # MOCK_FLAGS_DEVICE_HUGE_IOVA, where there is no MOCK_IOMMUPT_HUGE


class Tracked:
    """A range of IOVA that is tracked.

    Attributes:
        hwpt: which tracks it.
        ioas: where memory is mapped.
        iova: its first byte.
        length: bytes.
        bitmap: where the kernel is to tell.
    """

    def __init__(self, hwpt: Hwpt, ioas: Ioas, iova: int, length: int, bitmap: Buffer) -> None:
        self.hwpt = hwpt
        self.ioas = ioas
        self.iova = iova
        self.length = length
        self.bitmap = bitmap

    def mark(self, *pages: int, half: int | None = None, page_size: int = PAGE) -> int:
        """Have pages be written to, by their numbers; both mock pages of each, or one half."""
        ratio = page_size // MOCK_PAGE
        halves = range(ratio) if half is None else (half,)
        bits = to_bitmap((page * ratio + part for page in pages for part in halves), self._bits)
        self.bitmap.write(bits)
        return self.hwpt.mark_dirty(self.iova, self.length, MOCK_PAGE, self.bitmap)

    def read(
        self,
        page_size: int = PAGE,
        *,
        offset: int = 0,
        iova: int | None = None,
        length: int | None = None,
        **fields: Any,
    ) -> set[int]:
        """Return which bits the kernel sets for a part of the range; all unless told.

        Args:
            page_size: what a bit is for, bytes.
            offset: where in the bitmap's memory to begin, bytes.
            iova: where the part begins.
            length: of the part, bytes.
            fields: any field.
        """
        length = self.length if length is None else length
        size = max(1, length // page_size + 7 >> 3)
        self.bitmap.write(bytes(size), offset)
        start = self.iova if iova is None else iova
        at = self.bitmap.address + offset
        self.hwpt.get_dirty_bitmap(start, length, page_size, at, **fields)
        return from_bitmap(self.bitmap.read(size, offset))

    def reject(
        self, expected: Expectation, bits: Collection[int] = (), page_size: int = PAGE, **part: Any
    ) -> None:
        """Read a part that must be rejected; a kernel that reports success sets just these bits."""
        told = set(bits)
        with expected:
            told = self.read(page_size, **part)
        assert told == set(bits)

    @property
    def _bits(self) -> int:
        return self.length // MOCK_PAGE


def compare(told: Any, wanted: Any, without_last: Any) -> None:
    """See that the bits are right; kernels have lost those of each entry's last mock page.

    Args:
        told: what the kernel has set.
        wanted: what it must set.
        without_last: what it sets if it leaves that out.
    """
    if without_last != wanted:
        assert told != without_last, "the last mock page of each dirty entry is not reported"
    assert told == wanted


def to_bitmap(bits: Iterable[int], count: int) -> bytes:
    """Return a bitmap in which these of so many bits are set."""
    made = bytearray(count + 7 >> 3)
    for bit in bits:
        made[bit >> 3] |= 1 << (bit & 7)
    return bytes(made)


def from_bitmap(content: bytes) -> set[int]:
    """Return which bits are set."""
    return {
        at * 8 + bit
        for at, byte in enumerate(content)
        if byte
        for bit in range(8)
        if byte >> bit & 1
    }


@pytest.fixture
def base(uapi: Uapi) -> int:
    """The first IOVA that a mock device can use."""
    return int(uapi.MOCK_APERTURE_START)


@pytest.fixture
def dirty_ioas(other_ioas: Ioas) -> Ioas:
    """An IOAS that maps page by page, so that what is told does not depend on the memory."""
    other_ioas.huge_pages(0)
    return other_ioas


@pytest.fixture
def dirty_hwpt(iommufd: Context, mock_device: MockDevice, dirty_ioas: Ioas, uapi: Uapi) -> Hwpt:
    """A HWPT of that IOAS, with tracking not switched on yet."""
    flags = uapi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING
    return iommufd.hwpt_alloc(mock_device, dirty_ioas, flags=flags)


@pytest.fixture
def bitmap(buffers: Callable[..., Buffer]) -> Buffer:
    """Memory for bitmaps."""
    return buffers(BITMAP_SIZE)


@pytest.fixture
def untracked(
    dirty_hwpt: Hwpt, dirty_ioas: Ioas, buffer: Buffer, bitmap: Buffer, base: int
) -> Tracked:
    """Sixteen pages whose tracking is not switched on yet."""
    dirty_ioas.map(buffer, iova=base)
    return Tracked(dirty_hwpt, dirty_ioas, base, buffer.size, bitmap)


@pytest.fixture
def tracked(untracked: Tracked) -> Tracked:
    """Sixteen pages that are tracked."""
    untracked.hwpt.set_dirty_tracking()
    return untracked


@pytest.fixture
def tracked_size(
    dirty_hwpt: Hwpt, dirty_ioas: Ioas, buffers: Callable[..., Buffer], bitmap: Buffer, base: int
) -> Callable[[int], Tracked]:
    """Makes so many bytes that are tracked."""

    def make(size: int) -> Tracked:
        dirty_ioas.map(buffers(size), iova=base)
        dirty_hwpt.set_dirty_tracking()
        return Tracked(dirty_hwpt, dirty_ioas, base, size, bitmap)

    return make


@pytest.fixture
def tracked_huge(
    iommufd: Context,
    ioas: Ioas,
    other_ioas: Ioas,
    huge_buffer: Buffer,
    hwpt_type: HwptData,
    bitmap: Buffer,
    base: int,
    uapi: Uapi,
) -> Callable[[int], Tracked]:
    """Makes so many bytes that are tracked in mock huge pages: the same memory, again and again."""

    def make(size: int) -> Tracked:
        flags = uapi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING
        if uapi.has("MOCK_IOMMUPT_HUGE"):
            data = hwpt_type.valid(pagetable_type=uapi.MOCK_IOMMUPT_HUGE)
            made = iommufd.hwpt_alloc(iommufd.mock_device(ioas), other_ioas, data, flags=flags)
        else:
            device = iommufd.mock_device(ioas, _HUGE_IOVA)
            made = iommufd.hwpt_alloc(device, other_ioas, flags=flags)
        for start in range(0, size, huge_buffer.size):
            other_ioas.map(huge_buffer, iova=base + start)
        made.set_dirty_tracking()
        return Tracked(made, other_ioas, base, size, bitmap)

    return make


@pytest.fixture
def counts_mock_pages(uapi: Uapi) -> bool:
    """Whether the mock driver keeps a dirty bit for each of its own pages, not a page table."""
    return not uapi.has("MOCK_IOMMUPT_HUGE")


@pytest.fixture
def has_page_table(uapi: Uapi) -> bool:
    """Whether the mock driver has a page table, whose entries have the dirty bits."""
    return uapi.has("MOCK_IOMMUPT_HUGE")
