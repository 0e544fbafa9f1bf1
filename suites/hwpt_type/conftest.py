# SPDX-License-Identifier: GPL-2.0-only
"""Each declared type with its device, its parent and its valid HWPT; fields and values of each."""

from __future__ import annotations

from dataclasses import dataclass
from errno import EOPNOTSUPP
from typing import TYPE_CHECKING, Any

import pytest

from pytest_iommufd import IoctlError, absent, rule
from pytest_iommufd.hwpt_types.registry import declared as declared_types
from pytest_iommufd.hwpt_types.registry import headers
from pytest_iommufd.hwpt_types.values import Bits
from pytest_iommufd.iommufd import MockDevice, UserData
from pytest_iommufd.rules.marker import some
from pytest_iommufd.uapi.absence import why_absent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import SupportsIndex

    from pytest_iommufd.hwpt_types import Event, HwptType, Invalidation, ViommuType
    from pytest_iommufd.hwpt_types.declaration import Data
    from pytest_iommufd.hwpt_types.values import Values
    from pytest_iommufd.iommufd import Context, Hwpt, HwptData, Ioas, VfioDevice, Viommu
    from pytest_iommufd.uapi import Struct, Uapi

_MARKER = "hwpt_type_rule"


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", f"{_MARKER}(name, part): a rule of each declared type")


def of_each(name: str, part: str = "") -> pytest.MarkDecorator:
    """Make a test one of each declared type: of its rule hwpt_type.TYPE.NAME.

    Args:
        name: the rule's; FIELD in it stands for a field's name: then it is one of each field.
        part: what a type must have, with "+" between: see _has(). Of the first one FIELD is
            ("data", "invalidation", "viommu_invalidation").
    """
    return getattr(pytest.mark, _MARKER)(name, part)  # type: ignore[no-any-return]


# ---- at collection ----


@dataclass(frozen=True)
class FieldOf:
    """A field of a declared struct, and which values it takes.

    Attributes:
        data: whose it is.
        name: the field, or an array's element.
        values: what it takes.
    """

    data: Data
    name: str
    values: Values

    def inside(self, uapi: Uapi) -> Iterator[bytes]:
        """Return valid structs with each value of the field that is told from others."""
        for value in self.values.inside(self.data.bits(uapi, self.name), uapi):
            yield self.data.with_value(uapi, self.name, value)

    def outside(self, uapi: Uapi) -> Iterator[bytes]:
        """Return structs that only this field makes invalid."""
        kept = self.data.value(uapi, self.name) if isinstance(self.values, Bits) else 0
        for value in self.values.outside(self.data.bits(uapi, self.name), uapi):
            yield self.data.with_value(uapi, self.name, kept | value)


def _parts(declared: HwptType) -> dict[str, Data]:
    found: dict[str, Data | None] = {
        "data": declared,
        "invalidation": declared.invalidation,
        "viommu_invalidation": declared.viommu.invalidation if declared.viommu else None,
        "event": declared.viommu.event if declared.viommu else None,
    }
    return {name: part for name, part in found.items() if part}


def _has(declared: HwptType, part: str) -> bool:
    """Tell whether a type has what a test is about."""
    has = {
        "": True,
        "mock": declared.device == "mock",
        "not_of_ioas": bool(declared.of_ioas),
        "of_parent": not declared.of_viommu_only,
        "viommu": declared.viommu is not None,
    }
    return has[part] if part in has else part in _parts(declared)


def _newest(known: Mapping[str, Uapi], part: Data) -> Uapi:
    """Return the header that knows most of a struct."""
    knowing = [uapi for uapi in known.values() if part.known_to(uapi)]
    return max(knowing, key=lambda uapi: uapi.sizeof(part.struct))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make the tests: one of each declared type, or one of each of its fields."""
    marker = metafunc.definition.get_closest_marker(_MARKER)
    if marker is None:
        return
    name, part = marker.args
    known = headers(metafunc.config)
    parts = part.split("+")
    types = [
        each
        for each in declared_types(metafunc.config)
        if all(_has(each, wanted) for wanted in parts)
    ]
    slug = "hwpt_type.{}.{}".format
    if "FIELD" not in name:
        made = [
            pytest.param(each, id=each.name, marks=rule(slug(each.name, name))) for each in types
        ]
        metafunc.parametrize("declared", some(made))
        return
    outside = ".outside" in name
    rows = []
    for each in types:
        data = _parts(each)[parts[0]]
        uapi = _newest(known, data)
        for field, values in data.values(uapi).items():
            found = values.outside if outside else values.inside
            if not found(data.bits(uapi, field), uapi):
                continue
            plain = field.replace("[", "_").replace("]", "")
            mark = rule(slug(each.name, name.replace("FIELD", plain)))
            rows.append(
                pytest.param(
                    each, FieldOf(data, field, values), id=f"{each.name}-{plain}", marks=mark
                )
            )
    metafunc.parametrize(("declared", "field"), some(rows))


# ---- what the declared type needs ----


@pytest.fixture(autouse=True)
def _known(request: pytest.FixtureRequest, uapi: Uapi) -> None:
    """End tests of types that the kernel's header does not have, before anything is made."""
    params = request.node.callspec.params
    declared: HwptType = params["declared"]
    if not uapi.has("iommu_hwpt_alloc.data_type"):
        absent("the kernel's struct iommu_hwpt_alloc has no data_type")
    marker = request.node.get_closest_marker(_MARKER)
    for part in (declared, _parts(declared).get(marker.args[1].partition("+")[0], declared)):
        for name in (part.data_type, part.struct):
            if why := why_absent(uapi, name):
                absent(why)
    field = params.get("field")
    if field and not uapi.has(f"{field.data.struct}.{field.name.partition('[')[0]}"):
        absent(f"the kernel's struct {field.data.struct} has no {field.name}")
    if declared.device == "vfio":
        request.getfixturevalue("vfio_nodes")


@pytest.fixture
def data(declared: HwptType, uapi: Uapi) -> HwptData:
    """Makes the type's data as the kernel's header has it."""
    return declared.of(uapi)


@pytest.fixture
def device(declared: HwptType, request: pytest.FixtureRequest, uapi: Uapi) -> Any:
    """A device whose driver takes the type; absent where it is another driver's."""
    if declared.device == "mock":
        return request.getfixturevalue("mock_device")
    found: VfioDevice = request.getfixturevalue("vfio_device")
    if found.get_hw_info().out_data_type != getattr(uapi, declared.hw_info):
        absent(f"the devices that are given to the tests have no {declared.hw_info}")
    return found


@pytest.fixture
def stage2(iommufd: Context, device: Any, ioas: Ioas, uapi: Uapi) -> Hwpt:
    """A HWPT of the IOAS that can be a parent; absent where the IOMMU cannot nest."""
    try:
        return iommufd.hwpt_alloc(device, ioas, flags=uapi.IOMMU_HWPT_ALLOC_NEST_PARENT)
    except IoctlError as error:
        if error.errno != EOPNOTSUPP or isinstance(device, MockDevice):
            raise
        return absent("the device's IOMMU cannot nest: NEST_PARENT gives EOPNOTSUPP")


@pytest.fixture
def declared_viommu(declared: HwptType) -> ViommuType:
    """The vIOMMU's declaration; absent where there is none."""
    return declared.viommu or absent(f"{declared} is declared without a vIOMMU")


@pytest.fixture
def declared_event(declared_viommu: ViommuType) -> Event:
    """The declaration of the vIOMMU's events."""
    assert declared_viommu.event
    return declared_viommu.event


@pytest.fixture
def type_viommu(
    iommufd: Context, device: Any, stage2: Hwpt, declared_viommu: ViommuType, uapi: Uapi
) -> Viommu:
    """A vIOMMU of the declared type; absent where the kernel has none."""
    if not iommufd.has("IOMMU_VIOMMU_ALLOC"):
        absent("the kernel has no IOMMU_VIOMMU_ALLOC (ENOTTY)")
    number = getattr(uapi, declared_viommu.type)
    return iommufd.viommu_alloc(device, stage2, type=number)


@pytest.fixture
def parent(declared: HwptType, stage2: Hwpt, request: pytest.FixtureRequest) -> Any:
    """What HWPTs of the type are made from: a parent HWPT, or its vIOMMU."""
    return request.getfixturevalue("type_viommu") if declared.of_viommu_only else stage2


@pytest.fixture
def alloc(iommufd: Context, device: Any, parent: Any, data: HwptData) -> Callable[..., Hwpt]:
    """Allocates: `alloc()` a valid HWPT, `alloc(content, pt, **fields)` another."""

    def make(content: bytes | None = None, pt: SupportsIndex | None = None, **fields: Any) -> Hwpt:
        given = data.valid() if content is None else UserData(data.number, content)
        return iommufd.hwpt_alloc(device, parent if pt is None else pt, given, **fields)

    return make


@pytest.fixture
def nested(alloc: Callable[..., Hwpt]) -> Hwpt:
    """A HWPT of the type."""
    return alloc()


@pytest.fixture
def check_reached(declared: HwptType, uapi: Uapi) -> Callable[[Hwpt, bytes], None]:
    """Sees that the driver has what a HWPT was made of, where the declaration says how."""

    def check(hwpt: Hwpt, content: bytes) -> None:
        if declared.reaches:
            declared.reaches(hwpt, uapi.struct(declared.struct).load(content))

    return check


# ---- invalidation ----


class Invalidator:
    """Invalidates a HWPT or a vIOMMU with entries of a declared type.

    Attributes:
        declared: the entries' declaration.
        sizeof: the size of an entry in the kernel's header, bytes.
    """

    def __init__(self, context: Context, target: SupportsIndex, declared: Invalidation) -> None:
        self.context = context
        self.declared = declared
        self._target = target
        self._number: int = getattr(context.uapi, declared.data_type)
        self.sizeof = context.uapi.sizeof(declared.struct)

    def valid(self) -> bytes:
        """Return a valid entry."""
        return bytes(self.declared.of(self.context.uapi).make())

    def __call__(self, *entries: bytes, **fields: Any) -> Struct:
        """Make the call, and return its struct with how many were handled in entry_num."""
        __tracebackhide__ = True
        given: dict[str, Any] = {
            "hwpt_id": self._target,
            "data_type": self._number,
            "entry_len": len(entries[0]) if entries else self.sizeof,
            "entry_num": len(entries),
        }
        if entries:
            given["data_uptr"] = b"".join(entries)
        return self.context.ioctl("IOMMU_HWPT_INVALIDATE", **(given | fields))

    def bad(self) -> tuple[bytes, str]:
        """Return an entry that the driver refuses, and the errno; absent if any is valid."""
        uapi = self.context.uapi
        for name, values in self.declared.values(uapi).items():
            for content in FieldOf(self.declared, name, values).outside(uapi):
                if not values.defect:
                    return content, values.errno
        return absent("the declaration has no entry that is invalid")


@pytest.fixture
def invalidate(declared: HwptType, request: pytest.FixtureRequest, iommufd: Context) -> Invalidator:
    """Invalidates a HWPT of the type."""
    assert declared.invalidation
    return Invalidator(iommufd, request.getfixturevalue("nested"), declared.invalidation)


@pytest.fixture
def invalidate_viommu(
    declared_viommu: ViommuType, type_viommu: Viommu, device: Any, iommufd: Context
) -> Invalidator:
    """Invalidates a vIOMMU of the type that has the device."""
    assert declared_viommu.invalidation
    type_viommu.vdevice_alloc(device, declared_viommu.virt_id)
    return Invalidator(iommufd, type_viommu, declared_viommu.invalidation)
