# SPDX-License-Identifier: GPL-2.0-only
"""Numbers remember which call gave them, through all that tests do with them."""

from __future__ import annotations

import struct
import warnings

from pytest_iommufd.agent.protocol import Program
from pytest_iommufd.given import Given, Packed, given_in, pack
from pytest_iommufd.uapi import Uapi

UAPI = Uapi.shipped()[-1]


class Thing:
    """An object that stands for its id."""

    def __init__(self, number: int) -> None:
        self.id = number

    def __index__(self) -> int:
        return self.id


def origin(number: int) -> tuple[object, int, int]:
    assert isinstance(number, Given)
    return number.source, number.at, number.offset


def test_sums_are_from_where_the_number_is_and_nothing_else_is() -> None:
    address = Given(0x5000)
    for total, offset in ((address + 16, 16), (16 + address, 16), (address + 32 - 16, 16)):
        assert total == 0x5010
        assert origin(total) == (address.source, 0, offset)
    others = (address - Given(1), address * 2, address & 1, -address, address // 2, int(address))
    assert not any(isinstance(other, Given) for other in others)


def test_field_that_is_read_is_from_its_struct() -> None:
    made = UAPI.struct("iommu_test_cmd", mock_domain={"out_idev_id": 7})
    number = made.mock_domain.out_idev_id
    at = UAPI.offsetof("iommu_test_cmd", "mock_domain.out_idev_id")
    assert (number, *origin(number)) == (7, made, at, 0)


def test_bytes_of_a_struct_know_what_was_put_there() -> None:
    address, ident = Given(0x5000), Given(3)
    with warnings.catch_warnings(action="error"):
        made = UAPI.struct(
            "iommu_test_cmd", id=Thing(ident), access_rw={"iova": 1, "uptr": address + 1}
        )
    content = b"1234" + bytes(made) + bytes(3)
    found = {at - 4: origin(number) for at, number in given_in(content).items()}
    offsets = [UAPI.offsetof("iommu_test_cmd", path) for path in ("id", "access_rw.uptr")]
    assert found == dict(zip(offsets, (origin(ident), origin(address + 1)), strict=True))
    assert given_in(content[4:]) == given_in(bytes(made)) == given_in(bytes(made.replace(op=1)))
    assert given_in(content[:4]) == {}


def test_struct_is_known_where_bytes_begin_with_all_of_it() -> None:
    made = UAPI.struct("iommu_destroy", size=8)
    whole = bytes(made) + b"tail"
    assert isinstance(whole, Packed)
    assert whole.struct is made
    padded = whole.ljust(20, b"x")
    assert (padded, padded.struct) == (bytes(whole) + 8 * b"x", made)
    parts = whole[:8], whole[:7], whole[1:], b"x" + whole
    assert [part.struct for part in parts if isinstance(part, Packed)] == [made, None, None, None]


def test_packed_numbers_are_known_by_offset() -> None:
    file = Given(5)
    content = pack("<HiQ", 1, file, 2)
    assert content == struct.pack("<HiQ", 1, 5, 2)
    assert {at: origin(number) for at, number in given_in(content).items()} == {2: origin(file)}


def test_value_of_a_call_is_one() -> None:
    program = Program()
    program.syscall("openat", 0)
    (result,), _ = program.decode(memoryview(struct.pack("<qIIQ", 3, 0, 0, 0)))
    assert origin(result.ret + 1)[2] == 1
