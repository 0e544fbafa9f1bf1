# SPDX-License-Identifier: GPL-2.0-only
"""The order of the checks: of two errors in one call, the earlier check's is returned.

The ladders of rules.toml have each ioctl's checks in the kernel's order, with their errnos. Here is
how to fail each of them: what is different from a call that is right. Two with the same errno, or
that differ in the same field, tell nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_iommufd import raises_errno, rule
from pytest_iommufd.iommufd import Request
from pytest_iommufd.iommufd.ioas import FIXED_RW
from pytest_iommufd.rules.catalogue import FILE, Catalogue
from pytest_iommufd.uapi import errno_number

if TYPE_CHECKING:
    from pytest_iommufd.iommufd import Buffer, Context, Ioas

PAGE = 0x1000
CATALOGUE = Catalogue.load(Path(__file__).with_name(FILE))
LAST = (1 << 64) - 1
PLACE = 0x4000_0000
OCCUPIED = 0x4100_0000
UNKNOWN = 9999
TAIL = {"tail": b"\1"}

# Numbers, or names of fixtures. `right` is the call that succeeds, `rungs` what is wrong.
MAP = {"ioas_id": "ioas", "flags": FIXED_RW, "length": PAGE, "iova": PLACE}
RIGHT: dict[str, dict[str, Any]] = {
    "map": MAP | {"user_va": "buffer"},
    "map_file": MAP | {"fd": "memfd"},
    "copy": {
        "dst_ioas_id": "ioas",
        "src_ioas_id": "other_ioas",
        "flags": FIXED_RW,
        "src_iova": PLACE,
        "length": PAGE,
        "dst_iova": PLACE,
    },
    "unmap": {"ioas_id": "ioas", "iova": OCCUPIED, "length": PAGE},
    "allow_iovas": {"ioas_id": "ioas"},
    "iova_ranges": {"ioas_id": "ioas", "num_iovas": 0},
}
WRONG: dict[str, dict[str, dict[str, Any]]] = {
    "map": {
        "tail": TAIL,
        "reserved": {"__reserved": 1},
        "largest": {"length": LAST},
        "protection": {"flags": 1},
        "ioas_id": {"ioas_id": UNKNOWN},
        "va_wraps": {"user_va": LAST - 0x7FF},
        "length": {"length": 0x1001},
        "occupied": {"iova": OCCUPIED},
        "memory": {"user_va": "unmapped"},
    },
    "map_file": {
        "tail": TAIL,
        "flags": {"flags": 1 | 1 << 31},
        "largest": {"iova": LAST},
        "protection": {"flags": 1},
        "ioas_id": {"ioas_id": UNKNOWN},
        "length": {"length": 0},
        "start_wraps": {"start": LAST - 0x7FF},
        "fd": {"fd": -1},
        "occupied": {"iova": OCCUPIED},
        "no_memfd": {"fd": "null_device"},
    },
    "copy": {
        "tail": TAIL,
        "flags": {"flags": 1 | 1 << 31},
        "largest": {"dst_iova": LAST},
        "protection": {"flags": 1},
        "source_id": {"src_ioas_id": UNKNOWN},
        "source_length": {"length": 0},
        "source_wraps": {"src_iova": LAST - 1},
        "destination_id": {"dst_ioas_id": UNKNOWN},
        "length": {"length": 0x801},
        "occupied": {"dst_iova": OCCUPIED},
        "readonly": {"src_iova": "readonly_area"},
        "memory": {"src_iova": "unpinnable_area"},
    },
    "unmap": {
        "tail": TAIL,
        "ioas_id": {"ioas_id": UNKNOWN},
        "largest": {"iova": LAST},
        "length": {"length": 0},
        "not_mapped": {"iova": PLACE},
    },
    "allow_iovas": {
        "tail": TAIL,
        "reserved": {"__reserved": 1},
        "ioas_id": {"ioas_id": UNKNOWN},
        "array": {"num_iovas": 1, "allowed_iovas": "unmapped"},
    },
    "iova_ranges": {
        "tail": TAIL,
        "reserved": {"__reserved": 1},
        "ioas_id": {"ioas_id": UNKNOWN},
        "array": {"num_iovas": 1, "allowed_iovas": "unmapped"},
        "too_small": {},
    },
}
ALL = [
    pytest.param(ioctl, rung, marks=rule(f"ioas.order.{ioctl}.{rung}"), id=f"{ioctl}-{rung}")
    for ioctl in RIGHT
    for rung in CATALOGUE.ladders[f"ioas.order.{ioctl}"]["mainline"]
]


@pytest.fixture
def memfd(memfd_buffer: Buffer) -> int:
    """A memfd's descriptor."""
    return memfd_buffer.fd


@pytest.fixture
def null_device(iommufd: Context) -> int:
    """The descriptor of a file that is no memfd."""
    return iommufd.process.open("/dev/null")


@pytest.fixture
def readonly_area(other_ioas: Ioas, buffer: Buffer) -> int:
    """The IOVA of an area of the other IOAS that is only readable."""
    return other_ioas.map(buffer, flags=4)


@pytest.fixture
def unpinnable_area(other_ioas: Ioas, unmapped: int) -> int:
    """The IOVA of an area of the other IOAS whose memory is not there."""
    return other_ioas.map(unmapped, PAGE)


@pytest.mark.usefixtures("mock_device")
@pytest.mark.parametrize(("ioctl", "rung"), ALL)
def test_order(expected, request, iommufd, ioas, other_ioas, buffer, ioctl, rung):
    ioas.map(buffer, PAGE, iova=OCCUPIED)
    other_ioas.map(buffer, PAGE, iova=PLACE)
    name, wrong = f"ioas.order.{ioctl}", WRONG[ioctl]

    def wrong_in(*rungs: str) -> Request:
        given = dict(RIGHT[ioctl])
        for one in rungs:
            given |= wrong[one]
        for key, value in given.items():
            if isinstance(value, str):
                given[key] = request.getfixturevalue(value).__index__()
        tail = given.pop("tail", b"")
        return Request(f"IOMMU_IOAS_{ioctl.upper()}", given, tail)

    call = wrong_in(rung)
    with expected:
        iommufd.send(call)
    order = CATALOGUE.ladders[name]["mainline"]
    for lower in order[order.index(rung) + 1 :]:
        same_errno = CATALOGUE.rule(f"{name}.{lower}").expect["mainline"] == expected.result
        if not same_errno and not wrong[rung].keys() & wrong[lower].keys():
            call = wrong_in(lower, rung)
            with raises_errno(errno_number(expected.result)):
                iommufd.send(call)
