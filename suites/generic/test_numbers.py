# SPDX-License-Identifier: GPL-2.0-only
"""Numbers that are no command."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import absent, rule

from .raw import others, outcomes

if TYPE_CHECKING:
    from pytest_iommufd.iommufd import Context

TYPE = 0x3B00
# What changes a request without changing its number: type, direction, size of the argument.
OTHERS = {"type": 0x100, "no_type": 0x3B00, "write": 1 << 30, "read": 2 << 30, "size": 8 << 16}


def defined(iommufd: Context) -> set[int]:
    """Return the numbers of the commands of the kernel's header."""
    return {ioctl.number & 0xFF for ioctl in iommufd.uapi.ioctls}


@pytest.fixture
def unused(iommufd: Context) -> set[int]:
    """The numbers between commands that are none; iommufd_test's is the one beyond a gap."""
    found = set(range(min(defined(iommufd)), max(defined(iommufd)))) - defined(iommufd)
    if not found:
        absent("each number from the first command to the last is a command's")
    return found


@rule("generic.number.defined")
def test_all_commands_are_there(expected, iommufd):
    found = outcomes(
        iommufd, (ioctl.number for ioctl in iommufd.uapi.ioctls), iommufd.put(bytes(8))
    )
    assert others(expected.result, found) == {}


@rule("generic.number.undefined")
def test_number_within_the_table(expected, iommufd, unused):
    for size in (0, 8, 4096):
        pointer = iommufd.put(size.to_bytes(4, "little") + bytes(4092))
        found = outcomes(iommufd, (TYPE + number for number in unused), pointer)
        assert others(expected.result, found) == {}


@rule("generic.number.undefined_unreadable")
def test_number_within_the_table_with_a_bad_pointer(expected, iommufd, unused, unmapped):
    found = outcomes(iommufd, (TYPE + number for number in unused), unmapped)
    assert others(expected.result, found) == {}


@rule("generic.number.outside")
def test_number_outside_the_table(expected, iommufd, unmapped):
    inside = set(range(min(defined(iommufd)), max(defined(iommufd)) + 1))
    vfio = {0x64, 0x65, 0x66, 0x70, 0x71, 0x72}
    outside = [TYPE + number for number in set(range(256)) - inside - vfio]
    for pointer in (unmapped, iommufd.put(bytes(64))):
        assert others(expected.result, outcomes(iommufd, outside, pointer)) == {}


@pytest.fixture
def of_other_types(requests: list[int]) -> list[int]:
    """Requests that are a command's but for one part of the number."""
    return [request ^ other for request in requests for other in OTHERS.values()]


@rule("generic.number.other_type")
def test_request_of_another_type(expected, iommufd, of_other_types):
    for size in (8, 4096):
        pointer = iommufd.put(size.to_bytes(4, "little") + bytes(4092))
        found = outcomes(iommufd, of_other_types, pointer)
        assert others(expected.result, found) == {}


@rule("generic.number.other_type_unreadable")
def test_request_of_another_type_with_a_bad_pointer(expected, iommufd, of_other_types, unmapped):
    found = outcomes(iommufd, of_other_types, unmapped)
    assert others(expected.result, found) == {}
