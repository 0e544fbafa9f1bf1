# SPDX-License-Identifier: GPL-2.0-only
"""The declaration of a data type, and what is wrong with one."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from pytest_iommufd.errors import Problem
from pytest_iommufd.hwpt_types.values import Reserved, Values, number
from pytest_iommufd.iommufd.hwpt import HwptData
from pytest_iommufd.uapi import UapiError, UnknownNameError, errno_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pytest_iommufd.iommufd import Hwpt
    from pytest_iommufd.uapi import Uapi

_NAME = re.compile(r"[a-z0-9_]+")
_ELEMENT = re.compile(r"(\w+)\[(\d+)\]")
_RESERVED = "__reserved"
DEVICES = ("mock", "vfio")


def _caller() -> str:
    """Return file and line of whoever makes a declaration."""
    frame = sys._getframe(1)  # noqa: SLF001 - as warnings.warn() finds its caller
    ours = {__file__, "<string>"}  # what dataclass writes has no file
    while frame.f_back and frame.f_code.co_filename in ours:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


@dataclass(frozen=True, kw_only=True)
class Data:
    """What a driver takes from user space under a type's number.

    Attributes:
        data_type: the enumerator's or constant's name in the header.
        struct: the name of its struct, whose layout is that of the tested kernel's header.
        sample: valid values by field, or names of constants; a list for an array.
        fields: which values a field takes, by its name, `name[0]` for an array's element. Fields
            that begin with `__reserved` must be 0 unless it says otherwise; of other fields that
            it does not name nothing is tested.
        minimum: the last field that the first version of the struct had; by default its last.
        where: file and line of the declaration.
    """

    data_type: str
    struct: str
    sample: Mapping[str, Any]
    fields: Mapping[str, Values] = field(default_factory=dict)
    minimum: str = ""
    where: str = field(default_factory=_caller, repr=False, compare=False)

    def of(self, uapi: Uapi) -> HwptData:
        """Return what makes its struct under a kernel's header."""
        known = {
            name: number(value, uapi) if isinstance(value, str) else value
            for name, value in self.sample.items()
            if self._in(uapi, name)
        }
        return HwptData(uapi, self.data_type, self.struct, known)

    def values(self, uapi: Uapi) -> dict[str, Values]:
        """Return which values each field takes, those that are reserved by name included."""
        names = uapi.fields(self.struct)
        reserved = {name: Reserved() for name in names if name.startswith(_RESERVED)}
        return reserved | {
            name: values for name, values in self.fields.items() if self._in(uapi, name)
        }

    def with_value(self, uapi: Uapi, name: str, value: int) -> bytes:
        """Return a valid struct but for one field, which may be an array's element."""
        made = self.of(uapi).make()
        field, index = _place(name)
        if index is None:
            made[field] = value
        else:
            made[field] = [*made[field][:index], value, *made[field][index + 1 :]]
        return bytes(made)

    def value(self, uapi: Uapi, name: str) -> int:
        """Return a field's value in the sample."""
        field, index = _place(name)
        found = self.of(uapi).make()[field]
        return int(found if index is None else found[index])

    def bits(self, uapi: Uapi, name: str) -> int:
        """Return how many bits a field has, or an array's element."""
        field, index = _place(name)
        whole = 8 * uapi.sizeof(self.struct, field)
        return whole if index is None else whole // len(uapi.struct(self.struct)[field])

    def least(self, uapi: Uapi) -> int:
        """Return the least length that the driver takes, bytes."""
        last = self.minimum or uapi.fields(self.struct)[-1]
        return uapi.offsetof(self.struct, last) + uapi.sizeof(self.struct, last)

    def parts(self) -> Iterator[Data]:
        """Return itself and what else is declared with it."""
        yield self
        for each in fields(self):
            part = getattr(self, each.name)
            if isinstance(part, Data):
                yield from part.parts()

    def known_to(self, uapi: Uapi) -> bool:
        """Tell whether a header has the type and its struct."""
        return uapi.has(self.data_type) and uapi.has(self.struct)

    def check(self, uapi: Uapi) -> None:
        """See that it fits a header that knows it.

        Raises:
            Problem: it names a field that is not there, or its sample does not fit, or no value
                is outside of those that a field is said to take.
        """
        try:
            self.of(uapi).make()
            for name, values in self.values(uapi).items():
                self._check_values(uapi, name, values)
        except UapiError as error:
            raise self.problem(error.what, expected=error.expected) from None

    def check_field(self, headers: Sequence[Uapi], name: str) -> None:
        """See that the struct of some header has a field.

        Raises:
            Problem: none has it.
        """
        if any(self._in(uapi, name) for uapi in headers):
            return
        try:
            headers[0].sizeof(self.struct, name.partition("[")[0])
        except UapiError as error:
            raise self.problem(error.what, expected=error.expected) from None

    def problem(self, what: str, expected: str = "") -> Problem:
        """Return an error about it."""
        return Problem(
            f"{self.where}: {self}: {what}", expected=expected, mend=f"correct {self.where}"
        )

    def _in(self, uapi: Uapi, name: str) -> bool:
        """Tell whether a header's struct has a field: a later version may have more."""
        return uapi.has(f"{self.struct}.{name.partition('[')[0]}")

    def _check_values(self, uapi: Uapi, name: str, values: Values) -> None:
        value, bits = self.value(uapi, name), self.bits(uapi, name)
        if not values.has(value, uapi):
            raise UapiError(
                f"the sample's {name} = {value:#x} is no value of that field",
                expected=values.describe(uapi),
            )
        for inside in values.inside(bits, uapi):
            self.with_value(uapi, name, inside)
        if not values.errno:
            return
        errno_number(values.errno)
        if not values.outside(bits, uapi):
            raise UapiError(
                f"no value of {name} can give {values.errno}: it is {values.describe(uapi)}",
                expected="AnyValue(), or fewer values",
            )


@dataclass(frozen=True, kw_only=True)
class Invalidation(Data):
    """The entries of IOMMU_HWPT_INVALIDATE."""

    def __str__(self) -> str:
        return f"Invalidation {self.data_type}"


@dataclass(frozen=True, kw_only=True)
class Event(Data):
    """The events of a vIOMMU; the sample is what one of the declared device has."""

    def __str__(self) -> str:
        return f"Event {self.data_type}"


@dataclass(frozen=True, kw_only=True)
class ViommuType:
    """The vIOMMU that goes with a type.

    Attributes:
        type: the name of its number.
        virt_id: the id that the device has in it; entries of invalidations may name it.
        invalidation: the entries that it takes.
        event: what it tells.
    """

    type: str
    virt_id: int = 0x99
    invalidation: Invalidation | None = None
    event: Event | None = None


@dataclass(frozen=True, kw_only=True)
class HwptType(Data):
    """A data type of nested HWPTs.

    Attributes:
        name: what its rules are called by: hwpt_type.NAME.…
        wrong_type: the errno of its driver for another type.
        of_ioas: the errno of its driver for it with an IOAS in the parent's place; "" when that is
            not an error.
        flags: names of flags that the driver takes with it, besides IOMMU_HWPT_FAULT_ID_VALID.
        device: whose driver it is: "mock", or "vfio" for a device bound to vfio-pci.
        hw_info: the name of the type that GET_HW_INFO gives for a vfio device of that driver.
        reaches: called with a HWPT and the struct it was made of; fails unless the driver has
            the values.
        invalidation: the entries that its HWPTs take.
        viommu: the vIOMMU that its HWPTs may be made from.
        of_viommu_only: whether they cannot be made from a parent HWPT.
    """

    name: str
    wrong_type: str = "EOPNOTSUPP"
    of_ioas: str = "EOPNOTSUPP"
    flags: tuple[str, ...] = ()
    device: str = "mock"
    hw_info: str = ""
    reaches: Callable[[Hwpt, Any], None] | None = None
    invalidation: Invalidation | None = None
    viommu: ViommuType | None = None
    of_viommu_only: bool = False

    def __post_init__(self) -> None:
        """See that it makes sense in itself."""
        if not _NAME.fullmatch(self.name):
            raise self.problem(
                f"{self.name!r} is no name for rules", expected="lower case letters, digits, _"
            )
        if self.device not in DEVICES:
            raise self.problem(f"device = {self.device!r}", expected=f"one of {', '.join(DEVICES)}")
        if self.device == "vfio" and not self.hw_info:
            raise self.problem(
                "a vfio device without hw_info",
                expected="the enumerator of enum iommu_hw_info_type that tells its driver",
            )

    def __str__(self) -> str:
        return f"HwptType {self.name}"

    def parts(self) -> Iterator[Data]:
        """Return itself, the entries that it and its vIOMMU take, and events."""
        yield from super().parts()
        if self.viommu:
            yield from filter(None, (self.viommu.invalidation, self.viommu.event))

    def names(self) -> Iterator[str]:
        """Return the constants that it names besides the parts' data types."""
        yield from self.flags
        if self.viommu:
            yield self.viommu.type
        if self.hw_info:
            yield self.hw_info

    def check_known(self, headers: Mapping[str, Uapi]) -> None:
        """See that some header knows it, and that it fits each that does.

        Args:
            headers: by what messages call them.

        Raises:
            Problem: none knows it, or it does not fit.
        """
        for part in self.parts():
            knowing = [uapi for uapi in headers.values() if part.known_to(uapi)]
            if not knowing:
                raise part.problem(*_unknown(part, headers))
            for name in (*part.sample, *part.fields, *filter(None, [part.minimum])):
                part.check_field(knowing, name)
            for uapi in knowing:
                part.check(uapi)
        try:
            for name in filter(None, (self.wrong_type, self.of_ioas)):
                errno_number(name)
        except UapiError as error:
            raise self.problem(error.what, expected=error.expected) from None
        for name in self.names():
            if not any(uapi.has(name) for uapi in headers.values()):
                raise self.problem(*_missing(name, headers))


def _place(name: str) -> tuple[str, int | None]:
    """Return a field, and which element of it; None for the whole."""
    element = _ELEMENT.fullmatch(name)
    return (element[1], int(element[2])) if element else (name, None)


def _unknown(part: Data, headers: Mapping[str, Uapi]) -> tuple[str, str]:
    for name in (part.data_type, part.struct):
        if not any(uapi.has(name) for uapi in headers.values()):
            return _missing(name, headers)
    return f"no header has both {part.data_type} and struct {part.struct}", ""


def _missing(name: str, headers: Mapping[str, Uapi]) -> tuple[str, str]:
    """Say that no header has a name, in the words of the first one."""
    told, *_ = headers.values()
    try:
        getattr(told, name) if name.isupper() else told.struct(name)
    except UnknownNameError as error:
        return f"{error.what} (asked: {', '.join(headers)})", error.expected
    return f"{name} is unknown", ""
