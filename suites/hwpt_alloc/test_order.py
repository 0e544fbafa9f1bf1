# SPDX-License-Identifier: GPL-2.0-only
"""The order of the checks: of two errors in one call, the earlier check's is returned.

The ladders of rules.toml have each dialect's checks in the kernel's order, with their errnos. Here
is how to fail each of them: what is different from a call that is right. Of two rungs together the
upper must win. Two with the same errno tell nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_iommufd import raises_errno, rule
from pytest_iommufd.iommufd import Request
from pytest_iommufd.rules.catalogue import FILE, Catalogue
from pytest_iommufd.rules.marker import ABSENT
from pytest_iommufd.uapi import errno_number

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_iommufd.iommufd import Context, HwptData
    from pytest_iommufd.rules.expectation import Expectation
    from pytest_iommufd.rules.model import Capability
    from pytest_iommufd.uapi import Uapi

UNKNOWN = 9999
CATALOGUE = Catalogue.load(Path(__file__).with_name(FILE))
LADDERS = CATALOGUE.ladders

# Numbers, or names of fixtures and constants. Flags of two rungs are both given. `tail`, `fail_nth`
# and `readonly` tell how it is sent.
ALL: dict[str, Mapping[str, Any]] = {
    "size": {"size": 23},
    "tail": {"tail": b"\1"},
    "reserved": {"__reserved": 1},
    "dev_id": {"dev_id": UNKNOWN},
    "dev_id_type": {"dev_id": "other_ioas"},
    "pt_id": {"pt_id": UNKNOWN},
    "pt_id_type": {"pt_id": "selftest_object"},
    "memory": {"fail_nth": 3},
    "fault_id": {"flags": "IOMMU_HWPT_FAULT_ID_VALID", "fault_id": UNKNOWN},
    "respond": {"readonly": True},
}
TYPED = ALL | {
    "length_without_type": {"data_type": 0},
    "type_without_length": {"data_len": 0},
    "pt_id_nested": {"pt_id": "nested_hwpt"},
    "flags": {"flags": "IOMMU_HWPT_ALLOC_NEST_PARENT"},
    "no_data": {"data_type": 0, "data_len": 0},
    "default_type": {"data_type": 0},
    "auto_parent": {"pt_id": "auto_hwpt"},
    "no_parent": {"pt_id": "hwpt"},
    "memory": {"fail_nth": "memory_nth"},
    "data_type": {"data_type": 1},
    "data_length": {"data_len": 3},
    "data_tail": {"data_len": 64, "data_uptr": "ones"},
    "data_pointer": {"data_uptr": "unmapped"},
}
PAGING = ALL | {
    "length_without_type": {"data_len": 4},
    "type_without_length": {"data_type": 0xDEAD},
    "flags": {"flags": 1 << 31},
    "dirty": {"dev_id": "no_dirty_device", "flags": "IOMMU_HWPT_ALLOC_DIRTY_TRACKING"},
    "parent_with_queue": {"flags": 1 | 4, "fault_id": "fault_queue"},
    "data_type": {"data_type": 1, "data_len": 4},
    "data_length": {"data_type": 0xDEAD, "data_len": 3},
    "data_pointer": {"data_type": 0xDEAD, "data_len": 4, "data_uptr": "unmapped"},
    "bad_data": {"data_type": 0xDEAD, "data_len": 4, "data_uptr": "unmapped"},
    "area_alignment": {"pt_id": "ioas_unaligned"},
    "area_aperture": {"pt_id": "ioas_outside_aperture"},
    "area_memory": {"pt_id": "ioas_unpinnable"},
}


def _rungs(ladder: str) -> list[Any]:
    """Return the rungs of a ladder in any dialect, each with its rule."""
    rungs = dict.fromkeys(rung for known in LADDERS[ladder].values() for rung in known)
    return [pytest.param(rung, marks=rule(f"{ladder}.{rung}"), id=rung) for rung in rungs]


@pytest.fixture
def memory_nth(dialect: str) -> int:
    """Which point that can fail is the first memory, where there is data."""
    return 2 if dialect == "v2-review" else 3


@pytest.fixture
def resolve(uapi: Uapi, request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    """Turns a rung's value into what ioctl() takes."""

    def number(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        found = getattr(uapi, value) if value.isupper() else request.getfixturevalue(value)
        return found.__index__()

    return number


@pytest.fixture
def prepare(
    iommufd: Context,
    uapi: Uapi,
    type_field: str,
    readonly: Callable[[bytes], int],
    resolve: Callable[[Any], Any],
) -> Callable[..., Callable[[], None]]:
    """Prepares the call of a base with the errors of some rungs."""

    def make(base: dict[str, int], *rungs: Mapping[str, Any]) -> Callable[[], None]:
        fields: dict[str, Any] = dict(base)
        flags = 0
        for rung in rungs:
            fields |= {name: resolve(value) for name, value in rung.items()}
            flags |= fields.pop("flags", 0)
        fields["flags"] = flags
        tail, nth = fields.pop("tail", b""), fields.pop("fail_nth", 0)
        fields[type_field] = fields.pop("data_type", 0)
        given = Request("IOMMU_HWPT_ALLOC", fields, tail)
        if fields.pop("readonly", False):
            fields.setdefault("size", uapi.sizeof("iommu_hwpt_alloc") + len(tail))
            at = readonly(bytes(uapi.struct("iommu_hwpt_alloc", **fields)) + tail)
            given = Request("IOMMU_HWPT_ALLOC", at=at, content=b"")

        def call() -> None:
            with iommufd.sending(fail_nth=nth):
                iommufd.send(given)

        return call

    return make


@pytest.fixture
def check(
    prepare: Callable[..., Callable[[], None]],
    expected: Expectation,
    dialect: str,
    lacks: Callable[[Capability], str],
) -> Callable[..., None]:
    """Checks that a rung's error is returned, alone and whichever other is below it."""

    def result(ladder: str, rung: str) -> str:
        found = CATALOGUE.rule(f"{ladder}.{rung}")
        return found.expected(dialect, lambda name: lacks(CATALOGUE.capabilities[name]))

    def make(ladder: str, rungs: dict[str, Any], base: dict[str, int], upper: str) -> None:
        call = prepare(base, rungs[upper])
        with expected:
            call()
        order = LADDERS[ladder][dialect]
        for lower in order[order.index(upper) + 1 :]:
            same = (rungs[upper].keys() & rungs[lower].keys()) - {"flags"}
            if same or result(ladder, lower) == expected.got:
                continue
            if result(ladder, lower).startswith(ABSENT):
                continue
            call = prepare(base, rungs[lower], rungs[upper])
            try:
                with raises_errno(errno_number(expected.got)):
                    call()
            except AssertionError as error:
                error.add_note(f"with {upper} and {lower} both wrong")
                raise

    return make


@pytest.fixture
def typed(iommufd: Context, hwpt_type: HwptData) -> dict[str, int]:
    """The fields of good data."""
    data = hwpt_type.valid()
    uptr = iommufd.put(data.content)
    return {"data_type": data.type, "data_len": len(data.content), "data_uptr": uptr}


@pytest.mark.parametrize("rung", _rungs("hwpt_alloc.order.nested"))
def test_nested(check, typed, mock_device, parent_hwpt, rung):
    base = typed | {"dev_id": mock_device.id, "pt_id": parent_hwpt.id}
    check("hwpt_alloc.order.nested", TYPED, base, rung)


@pytest.mark.parametrize("rung", _rungs("hwpt_alloc.order.paging"))
def test_paging(check, mock_device, ioas, rung):
    base = {"dev_id": mock_device.id, "pt_id": ioas.id}
    check("hwpt_alloc.order.paging", PAGING, base, rung)


@pytest.mark.parametrize("rung", _rungs("hwpt_alloc.order.viommu"))
def test_viommu(check, typed, mock_device, viommu, rung):
    base = typed | {"dev_id": mock_device.id, "pt_id": viommu.id}
    check("hwpt_alloc.order.viommu", TYPED, base, rung)
