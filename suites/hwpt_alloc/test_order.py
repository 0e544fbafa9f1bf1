# SPDX-License-Identifier: GPL-2.0-only
"""The order of the checks: of two errors in one call, the earlier check's is returned.

Each ladder is in the kernel's order. A rung is one error in a call that is right but for it;
of two rungs together the upper must win. Two with the same errno tell nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from errno import (
    E2BIG,
    EADDRINUSE,
    EFAULT,
    EINVAL,
    ENOENT,
    ENOMEM,
    EOPNOTSUPP,
)
from typing import TYPE_CHECKING, Any

import pytest

from pytest_iommufd import absent, raises_errno, rule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_iommufd.iommufd import Context, Hwpt, HwptType, Ioas, MockDevice, Viommu
    from pytest_iommufd.uapi import Uapi

    Check = Callable[[dict[str, int], "Rung", list["Rung"]], None]

UNKNOWN = 9999


@dataclass(frozen=True)
class Rung:
    """A check, and what fails it.

    Attributes:
        name: for the rule's slug.
        number: the errno.
        fields: what differs from a right call: numbers, or names of fixtures and constants.
            Flags of two rungs are both given. `tail`, `fail_nth` and `readonly` are ioctl()'s
            and the page's.
        needs: a fixture that is false where the kernel lacks what this is about.
    """

    name: str
    number: int
    fields: Mapping[str, Any]
    needs: str = ""


FRAME = [
    Rung("size", EINVAL, {"size": 23}),
    Rung("tail", E2BIG, {"tail": b"\1"}),
    Rung("reserved", EOPNOTSUPP, {"__reserved": 1}),
]
LOOKUPS = [
    Rung("dev_id", ENOENT, {"dev_id": UNKNOWN}),
    Rung("dev_id_type", ENOENT, {"dev_id": "other_ioas"}),
    Rung("pt_id", EINVAL, {"pt_id": UNKNOWN}),
    Rung("pt_id_type", EINVAL, {"pt_id": "selftest_object"}),
]
MEMORY = Rung("memory", ENOMEM, {"fail_nth": 3}, "slab_can_fail")
BAD_QUEUE = {"flags": "IOMMU_HWPT_FAULT_ID_VALID", "fault_id": UNKNOWN}
RESPOND = Rung("respond", EFAULT, {"readonly": True})
DRIVER = [
    Rung("data_type", EOPNOTSUPP, {"data_type": 1}),
    Rung("data_length", EINVAL, {"data_len": 3}),
    Rung("data_pointer", EFAULT, {"data_uptr": "unmapped"}),
    Rung("fault_id", ENOENT, BAD_QUEUE),
    RESPOND,
]

NESTED = [
    *FRAME,
    Rung("length_without_type", EINVAL, {"data_type": 0}),
    Rung("type_without_length", EINVAL, {"data_len": 0}),
    *LOOKUPS,
    Rung("pt_id_nested", EINVAL, {"pt_id": "nested_hwpt"}),
    Rung("flags", EOPNOTSUPP, {"flags": "IOMMU_HWPT_ALLOC_NEST_PARENT"}),
    Rung("no_data", EOPNOTSUPP, {"data_type": 0, "data_len": 0}),
    Rung("auto_parent", EINVAL, {"pt_id": "auto_hwpt"}),
    Rung("no_parent", EINVAL, {"pt_id": "hwpt"}),
    MEMORY,
    *DRIVER,
]

PAGING = [
    *FRAME,
    Rung("length_without_type", EINVAL, {"data_len": 4}),
    Rung("type_without_length", EINVAL, {"data_type": 0xDEAD}),
    *LOOKUPS,
    Rung("flags", EOPNOTSUPP, {"flags": 1 << 31}),
    Rung(
        "dirty",
        EOPNOTSUPP,
        {"dev_id": "no_dirty_device", "flags": "IOMMU_HWPT_ALLOC_DIRTY_TRACKING"},
    ),
    Rung("parent_with_queue", EOPNOTSUPP, {"flags": 1 | 4, "fault_id": "fault_queue"}),
    MEMORY,
    Rung("data_type", EOPNOTSUPP, {"data_type": 1, "data_len": 4}),
    Rung("data_length", EINVAL, {"data_type": 0xDEAD, "data_len": 3}, "paging_takes_data"),
    Rung(
        "data_pointer",
        EFAULT,
        {"data_type": 0xDEAD, "data_len": 4, "data_uptr": "unmapped"},
        "paging_takes_data",
    ),
    Rung("area_alignment", EADDRINUSE, {"pt_id": "ioas_unaligned"}),
    Rung("area_aperture", EADDRINUSE, {"pt_id": "ioas_outside_aperture"}),
    Rung("area_memory", EFAULT, {"pt_id": "ioas_unpinnable"}),
    Rung("fault_id", ENOENT, BAD_QUEUE, "paging_takes_fault_id"),
    RESPOND,
]

VIOMMU = [
    FRAME[-1],
    *LOOKUPS,
    Rung("flags", EOPNOTSUPP, {"flags": "IOMMU_HWPT_ALLOC_NEST_PARENT"}),
    Rung("no_data", EOPNOTSUPP, {"data_type": 0, "data_len": 0}),
    MEMORY,
    *DRIVER,
]


def _rungs(name: str, ladder: list[Rung]) -> list[Any]:
    """Return for each rung itself, and those below whose errno is another."""
    return [
        pytest.param(
            upper,
            [
                lower
                for lower in ladder[place + 1 :]
                if lower.number != upper.number
                and not (upper.fields.keys() & lower.fields.keys()) - {"flags"}
            ],
            marks=rule(f"hwpt_alloc.order.{name}.{upper.name}"),
            id=upper.name,
        )
        for place, upper in enumerate(ladder)
    ]


@pytest.fixture
def resolve(uapi: Uapi, request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    """Turns a rung's value into what ioctl() takes."""

    def number(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        found = getattr(uapi, value) if uapi.has(value) else request.getfixturevalue(value)
        return found.__index__()

    return number


@pytest.fixture
def call(
    iommufd: Context,
    uapi: Uapi,
    readonly: Callable[[bytes], int],
    resolve: Callable[[Any], Any],
) -> Callable[..., None]:
    """Makes the call of a base with the errors of some rungs."""

    def make(base: dict[str, int], *rungs: Rung) -> None:
        fields: dict[str, Any] = dict(base)
        flags = 0
        for rung in rungs:
            fields |= {name: resolve(value) for name, value in rung.fields.items()}
            flags |= fields.pop("flags", 0)
        fields["flags"] = flags
        if not fields.pop("readonly", False):
            iommufd.hwpt_alloc(fields.pop("dev_id"), fields.pop("pt_id"), **fields)
            return
        tail, nth = fields.pop("tail", b""), fields.pop("fail_nth", 0)
        fields.setdefault("size", uapi.sizeof("iommu_hwpt_alloc") + len(tail))
        at = readonly(bytes(uapi.struct("iommu_hwpt_alloc", **fields)) + tail)
        iommufd.ioctl("IOMMU_HWPT_ALLOC", at=at, write=False, fail_nth=nth)

    return make


@pytest.fixture
def check(call: Callable[..., None], request: pytest.FixtureRequest) -> Check:
    """Checks that a rung's error is returned, alone and whichever other is below it."""

    def lacks(rung: Rung) -> bool:
        return bool(rung.needs) and not request.getfixturevalue(rung.needs)

    def make(base: dict[str, int], upper: Rung, below: list[Rung]) -> None:
        if lacks(upper):
            absent(f"the kernel lacks what is asked for by the fixture {upper.needs}")
        with raises_errno(upper.number):
            call(base, upper)
        for lower in below:
            if lacks(lower):
                continue
            try:
                with raises_errno(upper.number):
                    call(base, lower, upper)
            except AssertionError as error:
                error.add_note(f"with {upper.name} and {lower.name} both wrong")
                raise

    return make


@pytest.fixture
def typed(iommufd: Context, hwpt_type: HwptType) -> dict[str, int]:
    """The fields of good data."""
    data = hwpt_type.valid()
    uptr = iommufd.put(data.content)
    return {"data_type": data.type, "data_len": len(data.content), "data_uptr": uptr}


@pytest.mark.parametrize(("upper", "below"), _rungs("nested", NESTED))
def test_nested(
    check: Check,
    typed: dict[str, int],
    mock_device: MockDevice,
    parent_hwpt: Hwpt,
    upper: Rung,
    below: list[Rung],
) -> None:
    """Of two errors with a parent the earlier check's is returned (iommufd_hwpt_nested_alloc)."""
    check(typed | {"dev_id": mock_device.id, "pt_id": parent_hwpt.id}, upper, below)


@pytest.mark.parametrize(("upper", "below"), _rungs("paging", PAGING))
def test_paging(
    check: Check, mock_device: MockDevice, ioas: Ioas, upper: Rung, below: list[Rung]
) -> None:
    """Of two errors with an IOAS the earlier check's is returned (iommufd_hwpt_paging_alloc)."""
    check({"dev_id": mock_device.id, "pt_id": ioas.id}, upper, below)


@pytest.mark.parametrize(("upper", "below"), _rungs("viommu", VIOMMU))
def test_viommu(
    check: Check,
    typed: dict[str, int],
    mock_device: MockDevice,
    viommu: Viommu,
    upper: Rung,
    below: list[Rung],
) -> None:
    """Of two errors with a vIOMMU the earlier check's is returned (iommufd_hwpt_alloc)."""
    check(typed | {"dev_id": mock_device.id, "pt_id": viommu.id}, upper, below)
