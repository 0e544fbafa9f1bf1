# SPDX-License-Identifier: GPL-2.0-only
"""Arrays for vIOMMUs, which the mock driver copies as a whole first."""

from __future__ import annotations

import pytest

from pytest_iommufd import rule

from .conftest import ventry
from .test_call import count_of

ALL, BAD_FLAG, BAD_CACHE = 1, 2, 4
pytestmark = pytest.mark.usefixtures("vdevice")


@rule("invalidate.viommu.type")
def test_type_is_not_the_drivers(expected, invalidate, viommu, cache):
    for number in [0, 1, 0xDADBEEF, 0xFFFF_FFFF]:
        with expected:
            invalidate(viommu, ventry(0), data_type=number)
        assert count_of(expected) == 0
        cache()


@rule("invalidate.viommu.type.probe")
def test_type_is_not_the_drivers_without_entries(expected, invalidate, viommu):
    for number in [0, 1, 0xDADBEEF]:
        with expected:
            invalidate(viommu, data_type=number)
        assert count_of(expected) == 0


@rule("invalidate.viommu.type.before_array")
def test_type_is_looked_at_before_the_array(expected, invalidate, viommu, unmapped):
    with expected:
        invalidate(viommu, ventry(0), data_type=0, data_uptr=unmapped)


@rule("invalidate.viommu.cache")
def test_one_cache_entry(invalidate, viommu, cache):
    cache()
    for slot in range(4):
        assert invalidate(viommu, ventry(slot)) == 1
        cache(*range(slot + 1))


@rule("invalidate.viommu.caches")
def test_several_cache_entries(invalidate, viommu, cache):
    assert invalidate(viommu, ventry(1), ventry(2), ventry(1)) == 3
    cache(1, 2)


@rule("invalidate.viommu.all")
def test_all_cache_entries(invalidate, viommu, cache):
    assert invalidate(viommu, ventry(3, ALL)) == 1
    cache(0, 1, 2, 3)


@rule("invalidate.viommu.devices")
def test_each_device_by_its_virt_id(invalidate, viommu, other_device, cache):
    viommu.vdevice_alloc(other_device, 0x77)
    assert invalidate(viommu, ventry(0), ventry(1, vdev_id=0x77)) == 2
    cache(0)
    cache(1, device=other_device)


@rule("invalidate.viommu.entry_cut")
@pytest.mark.parametrize("length", [8, 11])
def test_entry_that_is_cut_off(invalidate, viommu, cache, length):
    assert invalidate(viommu, ventry(0)[:length]) == 1
    cache(0)


@rule("invalidate.viommu.entry_cut_before_vdev_id")
def test_entry_without_its_vdev_id(expected, invalidate, viommu):
    for length in [1, 4]:
        with expected:
            invalidate(viommu, bytes(length))
        assert count_of(expected) == 0


@rule("invalidate.viommu.entry_cut_to_virt_id_zero")
@pytest.mark.parametrize("length", [1, 4])
def test_entry_without_its_vdev_id_is_for_zero(invalidate, viommu, other_device, cache, length):
    viommu.vdevice_alloc(other_device, 0)
    assert invalidate(viommu, bytes(length)) == 1
    cache(0, device=other_device)


@rule("invalidate.viommu.tail_zero")
@pytest.mark.parametrize("length", [13, 16, 4096])
def test_entry_with_a_tail_of_zeroes(invalidate, viommu, cache, length):
    entries = [ventry(slot).ljust(length, b"\0") for slot in (1, 3)]
    assert invalidate(viommu, *entries) == 2
    cache(1, 3)


@rule("invalidate.viommu.tail_nonzero")
def test_entry_with_a_tail_that_is_not_zero(expected, invalidate, viommu, cache):
    for length in [13, 16, 4096]:
        tail = bytes(length - 13)
        with expected:
            invalidate(viommu, ventry(0) + b"\0" + tail, ventry(1) + tail + b"\1")
        cache()


@rule("invalidate.viommu.unreadable")
def test_array_that_cannot_be_read(expected, invalidate, viommu, unmapped):
    for length in [4, 12, 16]:
        with expected:
            invalidate(viommu, ventry(0), entry_len=length, data_uptr=unmapped)


@rule("invalidate.viommu.unreadable_counts_none")
def test_count_when_the_array_cannot_be_read(expected, invalidate, viommu, unmapped):
    with expected:
        invalidate(viommu, ventry(0), entry_num=3, data_uptr=unmapped)
    assert count_of(expected) == 0


@rule("invalidate.viommu.array_ends")
def test_array_that_ends_early(expected, invalidate, viommu, cache, page_before_hole, page_size):
    for length in [12, 16]:
        content = b"".join(ventry(slot).ljust(length, b"\0") for slot in (1, 2))
        start = page_before_hole.write(content, page_size - len(content))
        with expected:
            invalidate(viommu, entry_num=3, entry_len=length, data_uptr=start)
        assert count_of(expected) == 0
        cache()


@rule("invalidate.viommu.flags")
def test_unknown_flag(expected, invalidate, viommu, cache):
    for flags in [BAD_FLAG, BAD_FLAG | ALL, 1 << 31]:
        with expected:
            invalidate(viommu, ventry(0, flags))
        assert count_of(expected) == 0
        cache()


@rule("invalidate.viommu.flags.first")
def test_flag_is_looked_at_first(expected, invalidate, viommu):
    with expected:
        invalidate(viommu, ventry(BAD_CACHE, BAD_FLAG, vdev_id=0x98))


@rule("invalidate.viommu.cache_beyond")
def test_cache_entry_that_is_not_there(expected, invalidate, viommu, cache):
    for slot in [BAD_CACHE, 0xFFFF_FFFF]:
        with expected:
            invalidate(viommu, ventry(slot))
        assert count_of(expected) == 0
        cache()


@rule("invalidate.viommu.cache_beyond_with_all")
def test_cache_entry_that_is_not_there_with_all(expected, invalidate, viommu, cache):
    with expected:
        invalidate(viommu, ventry(BAD_CACHE, ALL))
    cache(*(() if expected.defect else range(4)))


@rule("invalidate.viommu.vdev_id")
def test_vdev_id_names_nothing(expected, invalidate, viommu):
    for number in [0, 0x98, 0x9A, 0xFFFF_FFFF]:
        with expected:
            invalidate(viommu, ventry(0, vdev_id=number))
        assert count_of(expected) == 0


@rule("invalidate.viommu.vdev_id.destroyed")
def test_vdev_id_of_a_destroyed_vdevice(expected, invalidate, viommu, vdevice, cache):
    vdevice.destroy()
    with expected:
        invalidate(viommu, ventry(0))
    cache()


@rule("invalidate.viommu.vdev_id.other_viommu")
def test_vdev_id_of_another_viommu(expected, iommufd, invalidate, mock_device, other_parent, cache):
    other = iommufd.viommu_alloc(mock_device, other_parent)
    with expected:
        invalidate(other, ventry(0))
    cache()


@rule("invalidate.viommu.stops_at_flags")
def test_what_is_before_a_bad_flag_is_done(expected, invalidate, viommu, cache):
    with expected:
        invalidate(viommu, ventry(0), ventry(1), ventry(2, BAD_FLAG), ventry(3))
    assert count_of(expected) == 2
    cache(0, 1)


@rule("invalidate.viommu.stops_at_vdev_id")
def test_what_is_before_an_unknown_vdev_id_is_done(expected, invalidate, viommu, cache):
    with expected:
        invalidate(viommu, ventry(0), ventry(1, vdev_id=0x98), ventry(3))
    assert count_of(expected) == 1
    cache(0)


@rule("invalidate.viommu.no_memory")
def test_no_memory_for_the_array(expected, invalidate, viommu, cache):
    with expected, viommu.context.sending(fail_nth=2):
        invalidate(viommu, ventry(0), ventry(1))
    cache()
    count = count_of(expected)
    assert count == 0, f"entry_num is returned as {count}"
