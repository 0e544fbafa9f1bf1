# SPDX-License-Identifier: GPL-2.0-only
"""Which calls make a hardware queue."""

from __future__ import annotations

import pytest

from pytest_iommufd import rule
from pytest_iommufd.iommufd.checks import check_refs
from pytest_iommufd.uapi.spare import spare_flags

UNKNOWN = [0, 9999, 0x7FFF_FFFF, 0xFFFF_FFFF]
NO_VIOMMUS = ["ioas", "parent_hwpt", "viommu_hwpt", "mock_device", "vdevice", "veventq", "queue"]
LAST = (1 << 64) - 1


@rule("hw_queue.size.below_minimum")
def test_size_below_the_minimum(expected, viommu, mapped, page_size):
    for size in [0, 4, 24, 39]:
        with expected:
            viommu.hw_queue_alloc(mapped, page_size, size=size)


@rule("hw_queue.size.tail_zero")
def test_tail_of_zeroes(viommu, mapped, page_size):
    with viommu.context.sending(tail=bytes(8)):
        viommu.hw_queue_alloc(mapped, page_size).destroy()


@rule("hw_queue.size.tail_nonzero")
def test_tail_that_is_not_zero(expected, viommu, mapped, page_size):
    with expected, viommu.context.sending(tail=b"\0\0\0\1"):
        viommu.hw_queue_alloc(mapped, page_size)


@rule("hw_queue.flags")
def test_flag(expected, viommu, mapped, page_size):
    flags = spare_flags(viommu.context.uapi, "iommu_hw_queue_alloc.flags")
    for flag in [flags[0], flags[1], flags[-1]]:
        with expected:
            viommu.hw_queue_alloc(mapped, page_size, flags=flag)


@rule("hw_queue.type.default")
def test_type_zero(expected, viommu, mapped, page_size):
    with expected:
        viommu.hw_queue_alloc(mapped, page_size, type=0)


@rule("hw_queue.flags.first")
def test_flags_and_type_are_looked_at_first(expected, viommu):
    flag = spare_flags(viommu.context.uapi, "iommu_hw_queue_alloc.flags")[0]
    for fields in [{"flags": flag}, {"type": 0}]:
        with expected:
            viommu.hw_queue_alloc(LAST, 0, viommu_id=0, **fields)


@rule("hw_queue.type.unknown")
def test_type_that_the_driver_has_not(expected, viommu, mapped, page_size):
    for number in [1, 7, 0xFFFF_FFFF]:
        with expected:
            viommu.hw_queue_alloc(mapped, page_size, type=number)
    viommu.destroy()


@rule("hw_queue.type.before_memory")
def test_type_is_looked_at_before_the_memory(expected, viommu, base, page_size):
    with expected:
        viommu.hw_queue_alloc(base, page_size, type=1)


@rule("hw_queue.length.zero")
def test_length_zero(expected, viommu, mapped):
    for iova in [0, 0x1000000, LAST]:
        with expected:
            viommu.hw_queue_alloc(iova, 0)
    assert mapped


@rule("hw_queue.length.zero.before_id")
def test_length_zero_is_told_before_the_id(expected, viommu):
    with expected:
        viommu.hw_queue_alloc(0, 0, viommu_id=0)


@rule("hw_queue.length.overflow")
def test_range_that_overflows(expected, viommu):
    for iova, length in [(LAST, 2), (2, LAST), (1 << 63, (1 << 63) + 1)]:
        with expected:
            viommu.hw_queue_alloc(iova, length)


@rule("hw_queue.length.overflow.before_id")
def test_range_that_overflows_is_told_before_the_id(expected, viommu):
    with expected:
        viommu.hw_queue_alloc(LAST, 2, viommu_id=0)


@rule("hw_queue.length.rounded_overflow")
def test_length_that_overflows_when_it_is_rounded(expected, viommu):
    for iova, length in [(0, LAST), (0, LAST - 0xFFE), (0xFFF, LAST - 0xFFE)]:
        with expected:
            viommu.hw_queue_alloc(iova, length)
    viommu.destroy()


@rule("hw_queue.length.too_long")
def test_length_that_there_is_no_memory_for(expected, viommu):
    for length in [1 << 50, LAST - 0xFFF]:
        with expected:
            viommu.hw_queue_alloc(0, length)
    viommu.destroy()


@rule("hw_queue.viommu_id.names_nothing")
def test_viommu_id_names_nothing(expected, viommu, mapped, page_size):
    for number in UNKNOWN:
        with expected:
            viommu.hw_queue_alloc(mapped, page_size, viommu_id=number)


@rule("hw_queue.viommu_id.other_type")
def test_viommu_id_of_another_type(expected, viommu, mapped, page_size, request):
    for kind in NO_VIOMMUS:
        wrong = request.getfixturevalue(kind)
        with expected:
            viommu.hw_queue_alloc(mapped, page_size, 1, viommu_id=wrong)


@rule("hw_queue.index.beyond")
def test_index_that_is_not_there(expected, viommu, ioas, mapped, page_size):
    for index in [2, 5, 0xFFFF_FFFF]:
        with expected:
            viommu.hw_queue_alloc(mapped, page_size, index)
    assert ioas.unmap(mapped, page_size) == page_size
    viommu.destroy()


@rule("hw_queue.index.taken")
def test_index_is_taken(expected, viommu, queue, mapped, page_size):
    with expected:
        viommu.hw_queue_alloc(mapped, page_size, 0)
    queue.destroy()
    viommu.destroy()


@rule("hw_queue.index.without_the_one_before")
def test_index_without_the_one_before(expected, viommu, ioas, mapped, page_size):
    with expected:
        viommu.hw_queue_alloc(mapped, page_size, 1)
    assert ioas.unmap(mapped, page_size) == page_size


@rule("hw_queue.index.per_viommu")
def test_index_is_the_viommus_own(iommufd, mock_device, other_parent, queue, mapped, page_size):
    other = iommufd.viommu_alloc(mock_device, other_parent)
    made = other.hw_queue_alloc(mapped, page_size, 0)
    queue.destroy()
    made.destroy()


@rule("hw_queue.index.again")
def test_index_may_be_taken_again(viommu, queue, mapped, page_size):
    queue.destroy()
    viommu.hw_queue_alloc(mapped, page_size, 0).destroy()


@rule("hw_queue.undone.unwritable")
def test_id_cannot_be_told(expected, unwritable, uapi, viommu, ioas, mapped, page_size):
    with expected:
        unwritable(
            "IOMMU_HW_QUEUE_ALLOC",
            viommu_id=viommu,
            type=uapi.IOMMU_HW_QUEUE_TYPE_SELFTEST,
            nesting_parent_iova=mapped,
            length=page_size,
        )
    viommu.hw_queue_alloc(mapped, page_size, 0).destroy()
    assert ioas.unmap(mapped, page_size) == page_size
    viommu.destroy()


@rule("hw_queue.failure.lookup")
def test_lookup_fails(expected, viommu, mapped, page_size):
    with expected, viommu.context.sending(fail_nth=1):
        viommu.hw_queue_alloc(mapped, page_size)
    viommu.destroy()


@rule("hw_queue.failure.memory")
@pytest.mark.parametrize("nth", [2, 3, 4, 5])
def test_no_memory(expected, viommu, ioas, mapped, page_size, nth):
    with expected, viommu.context.sending(fail_nth=nth):
        viommu.hw_queue_alloc(mapped, page_size)
    assert ioas.unmap(mapped, page_size) == page_size
    viommu.destroy()


@rule("hw_queue.lifetime.viommu")
def test_queue_holds_its_viommu(expected, viommu, queue):
    with expected:
        viommu.destroy()
    queue.destroy()
    viommu.destroy()


@rule("hw_queue.lifetime.next")
def test_queue_is_held_by_the_next(expected, viommu, queue, mapped, page_size):
    second = viommu.hw_queue_alloc(mapped, page_size, 1)
    with expected:
        queue.destroy()
    second.destroy()
    queue.destroy()


@rule("hw_queue.lifetime.context")
def test_context_may_be_closed_with_queues(
    iommufd, other_iommufd, viommu, queue, mapped, buffer, page_size
):
    assert viommu.hw_queue_alloc(mapped + 64, 128, 1).id != queue.id
    check_refs(other_iommufd, buffer, page_size, 1)
    iommufd.close()
    check_refs(other_iommufd, buffer, page_size, 0)
