# SPDX-License-Identifier: GPL-2.0-only
"""mmap() of /dev/iommu."""

from __future__ import annotations

import mmap
from errno import EBUSY, ENXIO

import pytest

from pytest_iommufd import raises_errno, rule
from pytest_iommufd.iommufd import Context

from .conftest import IN_DATA

WRITE, EXEC = mmap.PROT_READ | mmap.PROT_WRITE, mmap.PROT_READ | mmap.PROT_EXEC


@rule("viommu.mmap.nothing")
def test_nothing_to_map(expected, map_file, page_size):
    for page in [0, 1, 1 << 30]:
        with expected:
            map_file(page * page_size, page_size)


@rule("viommu.mmap.without_data")
@pytest.mark.usefixtures("viommu")
def test_viommu_without_data_offers_nothing(expected, map_file, page_size):
    with expected:
        map_file(page_size, 2 * page_size)


@rule("viommu.mmap.private")
def test_private_mapping(expected, map_file, page_size):
    for protection in [WRITE, EXEC]:
        with expected:
            map_file(0, page_size, protection, mmap.MAP_PRIVATE)


@rule("viommu.mmap.exec")
def test_executable_mapping(expected, map_file, page_size):
    with expected:
        map_file(0, page_size, EXEC)


@rule("viommu.mmap.exec.of_an_offer")
def test_executable_mapping_of_an_offer(expected, map_file, offered):
    with expected:
        map_file(offered.offset, offered.length, EXEC)
    offered.viommu.destroy()


@rule("viommu.mmap.private.of_an_offer")
def test_private_mapping_of_an_offer(expected, map_file, offered):
    with expected:
        map_file(offered.offset, offered.length, WRITE, mmap.MAP_PRIVATE)
    offered.viommu.destroy()


@rule("viommu.mmap.made_executable")
def test_mapping_made_executable(map_file, offered, process):
    address = map_file(offered.offset, offered.length)
    process.checked("mprotect", address, offered.length, EXEC)
    process.checked("munmap", address, offered.length)


@rule("viommu.mmap.page")
def test_mapping_shows_the_page(map_file, offered, process):
    address = map_file(offered.offset, offered.length)
    assert int.from_bytes(process.read(address, 4), "little") == IN_DATA
    process.checked("munmap", address, offered.length)


@rule("viommu.mmap.shared")
def test_two_mappings_are_of_one_page(map_file, offered, process):
    first, second = (map_file(offered.offset, offered.length) for _ in range(2))
    process.write(first + offered.length - 4, b"same")
    assert process.read(second + offered.length - 4, 4) == b"same"
    for address in (first, second):
        process.checked("munmap", address, offered.length)


@rule("viommu.mmap.each_offer")
def test_each_offer_is_mapped_by_itself(alloc_with_data, map_file, offered, process):
    _, data = alloc_with_data()
    addresses = [map_file(at, offered.length) for at in (offered.offset, data.out_mmap_offset)]
    process.write(addresses[1], b"two.")
    assert int.from_bytes(process.read(addresses[0], 4), "little") == IN_DATA
    for address in addresses:
        process.checked("munmap", address, offered.length)


@rule("viommu.mmap.readonly")
def test_readonly_mapping(map_file, offered, process):
    address = map_file(offered.offset, offered.length, mmap.PROT_READ)
    with pytest.raises(MemoryError):
        process.write(address, b"no")
    process.checked("munmap", address, offered.length)


@rule("viommu.mmap.offset")
def test_mapping_at_another_offset(expected, map_file, offered, page_size):
    for pages in [-1, 1, 2, 1 << 20]:
        with expected:
            map_file(offered.offset + pages * page_size, offered.length)
    offered.viommu.destroy()


@rule("viommu.mmap.offset_of_the_rest")
def test_mapping_of_the_rest(expected, map_file, offered, page_size):
    with expected:
        map_file(offered.offset + page_size, page_size)
    offered.viommu.destroy()


@rule("viommu.mmap.length")
def test_mapping_of_another_length(expected, map_file, offered, page_size):
    for pages in [1, 3, 4]:
        with expected:
            map_file(offered.offset, pages * page_size)
    offered.viommu.destroy()


@rule("viommu.mmap.length_rounded")
def test_length_is_rounded_to_pages(map_file, offered, process):
    address = map_file(offered.offset, offered.length - 1)
    process.write(address + offered.length - 4, b"last")
    assert process.read(address + offered.length - 4, 4) == b"last"
    process.checked("munmap", address, offered.length)


@rule("viommu.mmap.offset_unaligned")
def test_offset_within_a_page(expected, map_file, offered):
    with expected:
        map_file(offered.offset + 1, offered.length)


@rule("viommu.mmap.destroyed")
def test_offer_of_a_destroyed_viommu(expected, map_file, offered):
    offered.viommu.destroy()
    with expected:
        map_file(offered.offset, offered.length)


@rule("viommu.mmap.other_context")
def test_offer_of_another_context(expected, map_file, offered, ledger, uapi):
    other = Context(ledger.process, uapi)
    ledger.contexts.append(other)
    with expected:
        map_file(offered.offset, offered.length, context=other)


@rule("viommu.mmap.holds")
def test_mapping_holds_the_viommu(expected, map_file, offered, process):
    address = map_file(offered.offset, offered.length)
    with expected:
        offered.viommu.destroy()
    process.checked("munmap", address, offered.length)
    offered.viommu.destroy()


@rule("viommu.mmap.holds.each")
def test_each_mapping_holds_the_viommu(expected, map_file, offered, process):
    first, second = (map_file(offered.offset, offered.length) for _ in range(2))
    process.checked("munmap", first, offered.length)
    with expected:
        offered.viommu.destroy()
    process.checked("munmap", second, offered.length)
    offered.viommu.destroy()


@rule("viommu.mmap.holds.part")
def test_part_of_a_mapping_holds_the_viommu(expected, map_file, offered, process, page_size):
    address = map_file(offered.offset, offered.length)
    process.checked("munmap", address, page_size)
    with expected:
        offered.viommu.destroy()
    process.checked("munmap", address + page_size, page_size)
    offered.viommu.destroy()


@rule("viommu.mmap.holds.fork")
def test_mapping_of_a_child_holds_the_viommu(expected, map_file, offered, process):
    address = map_file(offered.offset, offered.length)
    child = process.fork()
    process.checked("munmap", address, offered.length)
    with expected:
        offered.viommu.destroy()
    child.end()
    offered.viommu.destroy()


@rule("viommu.mmap.closed")
def test_mapping_outlives_the_file(iommufd, map_file, offered, process):
    address = map_file(offered.offset, offered.length)
    iommufd.close()
    assert int.from_bytes(process.read(address, 4), "little") == IN_DATA
    process.checked("munmap", address, offered.length)


@rule("viommu.mmap.after_failure")
def test_offer_can_be_mapped_after_a_failure(map_file, offered, process):
    with raises_errno(ENXIO):
        map_file(offered.offset, 2 * offered.length)
    address = map_file(offered.offset, offered.length)
    with raises_errno(EBUSY):
        offered.viommu.destroy()
    process.checked("munmap", address, offered.length)
    offered.viommu.destroy()
