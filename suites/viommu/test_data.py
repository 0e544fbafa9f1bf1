# SPDX-License-Identifier: GPL-2.0-only
"""The driver's data: how long it may be, and what comes back."""

from __future__ import annotations

from pytest_iommufd import rule

from .conftest import IN_DATA


@rule("viommu.data.length")
def test_data_too_short_or_too_long(expected, alloc_with_data, parent_hwpt):
    for length in [1, 4, 7, 25, 32, 0xFFFF_FFFF]:
        with expected:
            alloc_with_data(length)
    parent_hwpt.destroy()


@rule("viommu.data.echo")
def test_data_comes_back(alloc_with_data):
    for length in [8, 12, 16, 20, 24]:
        _, data = alloc_with_data(length)
        assert (data.in_data, data.out_data) == (IN_DATA, IN_DATA)


@rule("viommu.data.cut")
def test_data_comes_back_up_to_its_length(alloc_with_data):
    for length in [8, 12, 16, 20]:
        _, data = alloc_with_data(length)
        whole = bytes(data)
        assert whole[length:] == bytes([0, 0, 0, 0, 0, 0, 0, 0, 0x55, 0x55] + [0] * 6)[length - 8 :]


@rule("viommu.data.unreadable")
def test_data_cannot_be_read(expected, alloc, parent_hwpt, unmapped):
    for where in ["null", "unmapped"]:
        with expected:
            alloc(data_len=24, data_uptr=0 if where == "null" else unmapped)
    parent_hwpt.destroy()


@rule("viommu.data.unwritable")
def test_data_cannot_be_written(expected, alloc, readonly, parent_hwpt):
    with expected:
        alloc(data_len=24, data_uptr=readonly(bytes(24)))
    parent_hwpt.destroy()


@rule("viommu.data.none")
def test_pointer_without_data(alloc, unmapped):
    for where in ["null", "unmapped"]:
        alloc(data_len=0, data_uptr=0 if where == "null" else unmapped).destroy()


@rule("viommu.data.offer")
def test_data_says_what_can_be_mapped(offered, page_size):
    assert offered.length == 2 * page_size
    assert offered.offset
    assert offered.offset % page_size == 0


@rule("viommu.data.offers_differ")
def test_each_viommu_has_its_own_offer(offered, alloc_with_data):
    _, data = alloc_with_data()
    assert abs(data.out_mmap_offset - offered.offset) >= offered.length


@rule("viommu.data.offer_given_again")
def test_offer_of_a_destroyed_viommu_is_given_again(offered, alloc_with_data):
    offered.viommu.destroy()
    _, data = alloc_with_data()
    assert data.out_mmap_offset == offered.offset


@rule("viommu.data.offer_undone")
def test_offer_of_a_failed_call_is_given_again(expected, iommufd, alloc, alloc_with_data, readonly):
    with expected:
        alloc(data_len=24, data_uptr=readonly(bytes(24)))
    _, data = alloc_with_data()
    assert data.out_mmap_offset == iommufd.process.hello.page_size
