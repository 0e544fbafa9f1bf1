# SPDX-License-Identifier: GPL-2.0-only
"""A valid call of each command.

All that can be read from the header is read from it; here is what only a person knows: which
objects a command wants. A command of a newer kernel that is not here gets all the rules that need
no valid call, and is named as not yet described.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from errno import EOPNOTSUPP
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pytest_iommufd import IoctlError, absent
from pytest_iommufd.iommufd import HwptData
from pytest_iommufd.iommufd.device import first_iova
from pytest_iommufd.iommufd.standin import StandInError
from pytest_iommufd.uapi import UnknownNameError
from pytest_iommufd.uapi.absence import TEST_COMMAND

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pytest_iommufd.iommufd import Buffer, Context, FaultQueue, Hwpt, Ioas, MockDevice, Viommu
    from pytest_iommufd.iommufd.object import IommufdObject

PAGE = 4096
PAGING = ("auto_hwpt", "hwpt", "parent_hwpt")
# The kinds of objects that a field takes, by what its name ends with; any other kind is wrong.
KINDS_OF_FIELD = {
    "ioas_id": ("ioas",),
    "dev_id": ("device",),
    "pt_id": ("ioas", *PAGING, "nested_hwpt", "viommu"),
    "hwpt_id": PAGING,
    "viommu_id": ("viommu",),
    "fault_id": ("fault_queue",),
    "object_id": ("ioas",),
}
# Fields whose names end with `_id` and that name no object.
NO_OBJECTS = ("option_id", "virt_id")


class Objects:
    """One object of each kind in a context, made when it is first asked for.

    Args:
        context: where.
        memory: makes a page; of a memfd with kind="memfd".
        answers: tells whether the kernel has an ioctl.
    """

    def __init__(
        self, context: Context, memory: Callable[..., Buffer], answers: Callable[[str], bool]
    ) -> None:
        self.context = context
        self.uapi = context.uapi
        self._make_memory = memory
        self._answers = answers
        self._iova = first_iova(self.uapi)

    def new_iova(self) -> int:
        """Return where nothing is mapped yet."""
        self._iova += 1 << 20
        return self._iova

    def map(self) -> int:
        """Map a page into the IOAS, and return where."""
        return self.ioas.map(self.memory, PAGE, iova=self.new_iova())

    def kinds(self) -> list[str]:
        """Return the kinds that the kernel has, of which there can be one here."""
        needs = {
            "viommu": "VIOMMU",
            "vdevice": "VDEVICE",
            "veventq": "VEVENTQ",
            "hw_queue": "HW_QUEUE",
        }
        return [
            kind
            for kind in (*KINDS, *needs)
            if kind not in needs or self._has(f"IOMMU_{needs[kind]}_ALLOC")
            if self.uapi.has(TEST_COMMAND) or self._is_made(kind)
        ]

    def _is_made(self, kind: str) -> bool:
        """Make one without iommufd_test, which only some can be."""
        try:
            return getattr(self, kind) is not None
        except (StandInError, UnknownNameError):
            return False

    def _has(self, ioctl: str) -> bool:
        return self.uapi.has(ioctl) and self._answers(ioctl)

    @cached_property
    def memory(self) -> Buffer:
        """A page of memory."""
        return self._make_memory()

    @cached_property
    def file(self) -> Buffer:
        """A page of a memfd."""
        return self._make_memory(kind="memfd")

    @cached_property
    def ioas(self) -> Ioas:
        """An IOAS."""
        return self.context.ioas_alloc()

    @cached_property
    def device(self) -> MockDevice:
        """A mock device attached to it."""
        return self.context.mock_device(self.ioas)

    @property
    def selftest(self) -> IommufdObject:
        """The mock device's own object."""
        return self.device.selftest

    @property
    def auto_hwpt(self) -> Hwpt:
        """The HWPT that the attachment made."""
        return self.device.hwpt

    @cached_property
    def hwpt(self) -> Hwpt:
        """A HWPT of the IOAS with dirty tracking."""
        flags = self.uapi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING
        return self.context.hwpt_alloc(self.device, self.ioas, flags=flags)

    @cached_property
    def parent_hwpt(self) -> Hwpt:
        """A HWPT of the IOAS that can be a parent."""
        flags = self.uapi.IOMMU_HWPT_ALLOC_NEST_PARENT
        return self.context.hwpt_alloc(self.device, self.ioas, flags=flags)

    @property
    def hwpt_type(self) -> HwptData:
        """The data of nested HWPTs."""
        return HwptData(self.uapi, "IOMMU_HWPT_DATA_SELFTEST", "iommu_hwpt_selftest", {"iotlb": 7})

    @cached_property
    def nested_hwpt(self) -> Hwpt:
        """A HWPT nested in the parent."""
        return self.context.hwpt_alloc(self.device, self.parent_hwpt, self.hwpt_type.valid())

    @cached_property
    def fault_queue(self) -> FaultQueue:
        """A fault queue."""
        return self.context.fault_queue_alloc()

    @cached_property
    def access(self) -> int:
        """An access object's id, which no ioctl tells: ids are given out in order."""
        before = self.context.ioas_alloc().id
        self.context.test("create_access", self.ioas)
        assert self.context.ioas_alloc().id == before + 2
        return before + 1

    @cached_property
    def viommu(self) -> Viommu:
        """A vIOMMU on the parent."""
        return self.context.viommu_alloc(self.device, self.parent_hwpt)

    @cached_property
    def vdevice(self) -> int:
        """A vDEVICE of the vIOMMU."""
        made = self.context.ioctl("IOMMU_VDEVICE_ALLOC", **vdevice(self).fields)
        return int(made.out_vdevice_id)

    @cached_property
    def veventq(self) -> int:
        """A vEVENTQ of the vIOMMU."""
        made = self.context.ioctl("IOMMU_VEVENTQ_ALLOC", **veventq(self).fields)
        return int(made.out_veventq_id)

    @cached_property
    def hw_queue(self) -> int:
        """A hardware queue of the vIOMMU."""
        made = self.context.ioctl("IOMMU_HW_QUEUE_ALLOC", **hw_queue(self).fields)
        return int(made.out_hw_queue_id)


KINDS = (
    "ioas",
    "device",
    "selftest",
    *PAGING,
    "nested_hwpt",
    "fault_queue",
    "access",
)


@dataclass(frozen=True)
class Call:
    """A call that the kernel must accept.

    Attributes:
        fields: the struct's fields; `size` comes by itself.
        took_effect: tells whether the kernel did what was asked, for calls that change something.
    """

    fields: dict[str, Any]
    took_effect: Callable[[], bool] = field(default=lambda: True)


@dataclass(frozen=True)
class Sample:
    """How a valid call of a command is made up.

    Attributes:
        name: the command; a colon and a word behind it tell several samples of one apart.
        make: makes the objects and returns the call.
        answers: fields that the kernel writes besides those that are called out_*.
        ignores: id fields that this call does not look at.
        changes: whether it changes something that stays when the answer cannot be written.
        in_first_version: whether it needs no field that the struct's first version has not.
        kinds: by field, the kinds of objects it takes where KINDS_OF_FIELD is not right.
    """

    name: str
    make: Callable[[Objects], Call]
    answers: tuple[str, ...] = ()
    ignores: tuple[str, ...] = ()
    changes: bool = False
    in_first_version: bool = True
    kinds: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def command(self) -> str:
        """The command."""
        return self.name.partition(":")[0]

    def right_kinds(self, id_field: str) -> tuple[str, ...]:
        """Return the kinds of objects that a field takes; none when it takes any."""
        if id_field in self.kinds:
            return self.kinds[id_field]
        ends = (kinds for end, kinds in KINDS_OF_FIELD.items() if id_field.endswith(end))
        return next(ends, ())


SAMPLES: dict[str, Sample] = {}


def sample(name: str, **given: Any) -> Callable[[Callable[[Objects], Call]], Callable[..., Call]]:
    """Register a function as the sample of a command."""

    def register(make: Callable[[Objects], Call]) -> Callable[[Objects], Call]:
        SAMPLES[name] = Sample(name, make, **given)
        return make

    return register


def _fails(call: Callable[[], object]) -> bool:
    try:
        call()
    except IoctlError:
        return True
    return False


# ---- I/O address spaces ----


@sample("IOMMU_DESTROY")
def destroy(objects: Objects) -> Call:
    """Return a valid call of IOMMU_DESTROY."""
    return Call({"id": objects.context.ioas_alloc().id})


@sample("IOMMU_IOAS_ALLOC")
def ioas_alloc(_: Objects) -> Call:
    """Return a valid call of IOMMU_IOAS_ALLOC."""
    return Call({})


@sample("IOMMU_IOAS_IOVA_RANGES", answers=("num_iovas",))
def iova_ranges(objects: Objects) -> Call:
    """Return a valid call of IOMMU_IOAS_IOVA_RANGES."""
    return Call({"ioas_id": objects.ioas, "num_iovas": 8, "allowed_iovas": objects.memory})


@sample("IOMMU_IOAS_ALLOW_IOVAS")
def allow_iovas(objects: Objects) -> Call:
    """Return a valid call of IOMMU_IOAS_ALLOW_IOVAS."""
    return Call({"ioas_id": objects.ioas})


def _mapping(objects: Objects, fields: dict[str, Any], iova_field: str) -> Call:
    uapi = objects.uapi
    iova = objects.new_iova()
    flags = uapi.IOMMU_IOAS_MAP_FIXED_IOVA
    flags |= uapi.IOMMU_IOAS_MAP_READABLE | uapi.IOMMU_IOAS_MAP_WRITEABLE
    return Call(
        {"flags": flags, "length": PAGE, iova_field: iova} | fields,
        took_effect=lambda: not _fails(lambda: objects.ioas.unmap(iova, PAGE)),
    )


@sample("IOMMU_IOAS_MAP", answers=("iova",), changes=True)
def ioas_map(objects: Objects) -> Call:
    """Return a valid call of IOMMU_IOAS_MAP."""
    return _mapping(objects, {"ioas_id": objects.ioas, "user_va": objects.memory}, "iova")


@sample("IOMMU_IOAS_MAP_FILE", answers=("iova",), changes=True)
def ioas_map_file(objects: Objects) -> Call:
    """Return a valid call of IOMMU_IOAS_MAP_FILE."""
    return _mapping(objects, {"ioas_id": objects.ioas, "fd": objects.file.fd}, "iova")


@sample("IOMMU_IOAS_COPY", answers=("dst_iova",), changes=True)
def ioas_copy(objects: Objects) -> Call:
    """Return a valid call of IOMMU_IOAS_COPY."""
    source = objects.map()
    ids = {"dst_ioas_id": objects.ioas, "src_ioas_id": objects.ioas, "src_iova": source}
    return _mapping(objects, ids, "dst_iova")


@sample("IOMMU_IOAS_UNMAP", answers=("length",), changes=True)
def ioas_unmap(objects: Objects) -> Call:
    """Return a valid call of IOMMU_IOAS_UNMAP."""
    iova = objects.map()
    return Call(
        {"ioas_id": objects.ioas, "iova": iova, "length": PAGE},
        took_effect=lambda: _fails(lambda: objects.ioas.unmap(iova, PAGE)),
    )


@sample("IOMMU_IOAS_CHANGE_PROCESS")
def change_process(_: Objects) -> Call:
    """Return a valid call of IOMMU_IOAS_CHANGE_PROCESS."""
    return Call({})


@sample("IOMMU_IOAS_NOIOMMU_GET_PA", answers=("length",))
def noiommu_get_pa(objects: Objects) -> Call:
    """Return a valid call of IOMMU_IOAS_NOIOMMU_GET_PA."""
    if not _fails_with_eopnotsupp(objects):
        absent("a valid call needs a device without IOMMU, which the mock driver does not make")
    absent("the kernel was built without IOMMUFD_NOIOMMU: every call gives EOPNOTSUPP")


def _fails_with_eopnotsupp(objects: Objects) -> bool:
    # a length of 0 is EINVAL where the command is there
    try:
        objects.context.ioctl("IOMMU_IOAS_NOIOMMU_GET_PA", ioas_id=objects.ioas)
    except IoctlError as error:
        return error.errno == EOPNOTSUPP
    return False


# ---- options ----


@sample("IOMMU_OPTION:get", answers=("val64",))
def option_get(objects: Objects) -> Call:
    """Return a valid call of IOMMU_OPTION to get."""
    uapi = objects.uapi
    option = uapi.IOMMU_OPTION_HUGE_PAGES
    op = uapi.IOMMU_OPTION_OP_GET
    return Call({"option_id": option, "op": op, "object_id": objects.ioas})


@sample("IOMMU_OPTION:set", answers=("val64",), changes=True)
def option_set(objects: Objects) -> Call:
    """Return a valid call of IOMMU_OPTION to set."""
    fields = option_get(objects).fields
    return Call(
        fields | {"op": objects.uapi.IOMMU_OPTION_OP_SET},
        took_effect=lambda: objects.context.ioctl("IOMMU_OPTION", **fields).val64 == 0,
    )


@sample("IOMMU_VFIO_IOAS:set")
def vfio_ioas_set(objects: Objects) -> Call:
    """Return a valid call of IOMMU_VFIO_IOAS to set."""
    return Call({"ioas_id": objects.ioas, "op": objects.uapi.IOMMU_VFIO_IOAS_SET})


@sample("IOMMU_VFIO_IOAS:get", answers=("ioas_id",), ignores=("ioas_id",))
def vfio_ioas_get(objects: Objects) -> Call:
    """Return a valid call of IOMMU_VFIO_IOAS to get."""
    objects.context.ioctl("IOMMU_VFIO_IOAS", **vfio_ioas_set(objects).fields)
    return Call({"op": objects.uapi.IOMMU_VFIO_IOAS_GET})


@sample("IOMMU_VFIO_IOAS:clear", ignores=("ioas_id",))
def vfio_ioas_clear(objects: Objects) -> Call:
    """Return a valid call of IOMMU_VFIO_IOAS to clear."""
    return Call({"op": objects.uapi.IOMMU_VFIO_IOAS_CLEAR})


# ---- hardware page tables ----


@sample("IOMMU_GET_HW_INFO", answers=("data_len", "in_data_type"))
def get_hw_info(objects: Objects) -> Call:
    """Return a valid call of IOMMU_GET_HW_INFO."""
    return Call({"dev_id": objects.device})


@sample("IOMMU_HWPT_ALLOC", ignores=("fault_id",))
def hwpt_alloc(objects: Objects) -> Call:
    """Return a valid call of IOMMU_HWPT_ALLOC."""
    return Call({"dev_id": objects.device, "pt_id": objects.ioas})


@sample("IOMMU_HWPT_ALLOC:fault", ignores=("dev_id", "pt_id"), in_first_version=False)
def hwpt_alloc_fault(objects: Objects) -> Call:
    """Return a valid call of IOMMU_HWPT_ALLOC to fault."""
    data = objects.hwpt_type.valid()
    return Call(
        {
            "flags": objects.uapi.IOMMU_HWPT_FAULT_ID_VALID,
            "dev_id": objects.device,
            "pt_id": objects.parent_hwpt,
            "data_type": data.type,
            "data_len": len(data.content),
            "data_uptr": objects.context.put(data.content),
            "fault_id": objects.fault_queue,
        }
    )


@sample("IOMMU_HWPT_SET_DIRTY_TRACKING")
def set_dirty_tracking(objects: Objects) -> Call:
    """Return a valid call of IOMMU_HWPT_SET_DIRTY_TRACKING."""
    return Call({"hwpt_id": objects.hwpt, "flags": objects.uapi.IOMMU_HWPT_DIRTY_TRACKING_ENABLE})


@sample("IOMMU_HWPT_GET_DIRTY_BITMAP")
def get_dirty_bitmap(objects: Objects) -> Call:
    """Return a valid call of IOMMU_HWPT_GET_DIRTY_BITMAP."""
    objects.context.ioctl("IOMMU_HWPT_SET_DIRTY_TRACKING", **set_dirty_tracking(objects).fields)
    return Call(
        {
            "hwpt_id": objects.hwpt,
            "iova": objects.map(),
            "length": PAGE,
            "page_size": PAGE,
            "data": objects.memory,
        }
    )


@sample(
    "IOMMU_HWPT_INVALIDATE",
    answers=("entry_num",),
    changes=True,
    kinds={"hwpt_id": ("nested_hwpt", "viommu")},
)
def hwpt_invalidate(objects: Objects) -> Call:
    """Return a valid call of IOMMU_HWPT_INVALIDATE."""
    uapi = objects.uapi
    hwpt = objects.context.hwpt_alloc(
        objects.device, objects.parent_hwpt, objects.hwpt_type.valid()
    )
    entry = bytes(
        uapi.struct("iommu_hwpt_invalidate_selftest", flags=uapi.IOMMU_TEST_INVALIDATE_FLAG_ALL)
    )
    return Call(
        {
            "hwpt_id": hwpt,
            "data_uptr": objects.context.put(entry),
            "data_type": uapi.IOMMU_HWPT_INVALIDATE_DATA_SELFTEST,
            "entry_len": len(entry),
            "entry_num": 1,
        },
        took_effect=lambda: not _fails(lambda: hwpt.check_iotlb(0, 0)),
    )


# ---- faults and virtual IOMMUs ----


@sample("IOMMU_FAULT_QUEUE_ALLOC")
def fault_queue_alloc(_: Objects) -> Call:
    """Return a valid call of IOMMU_FAULT_QUEUE_ALLOC."""
    return Call({})


@sample("IOMMU_VIOMMU_ALLOC")
def viommu_alloc(objects: Objects) -> Call:
    """Return a valid call of IOMMU_VIOMMU_ALLOC."""
    return Call(
        {
            "type": objects.uapi.IOMMU_VIOMMU_TYPE_SELFTEST,
            "dev_id": objects.device,
            "hwpt_id": objects.parent_hwpt,
        }
    )


@sample("IOMMU_VDEVICE_ALLOC")
def vdevice(objects: Objects) -> Call:
    """Return a valid call of IOMMU_VDEVICE_ALLOC."""
    return Call({"viommu_id": objects.viommu, "dev_id": objects.device, "virt_id": 0x99})


@sample("IOMMU_VEVENTQ_ALLOC")
def veventq(objects: Objects) -> Call:
    """Return a valid call of IOMMU_VEVENTQ_ALLOC."""
    return Call(
        {
            "viommu_id": objects.viommu,
            "type": objects.uapi.IOMMU_VEVENTQ_TYPE_SELFTEST,
            "veventq_depth": 2,
        }
    )


@sample("IOMMU_HW_QUEUE_ALLOC")
def hw_queue(objects: Objects) -> Call:
    """Return a valid call of IOMMU_HW_QUEUE_ALLOC."""
    return Call(
        {
            "viommu_id": objects.viommu,
            "type": objects.uapi.IOMMU_HW_QUEUE_TYPE_SELFTEST,
            "nesting_parent_iova": objects.map(),
            "length": PAGE,
        }
    )


# ---- the test command ----


@sample(
    "IOMMU_TEST_CMD:mock_domain",
    answers=("mock_domain",),
    kinds={"id": ("ioas", *PAGING, "nested_hwpt")},
)
def mock_domain(objects: Objects) -> Call:
    """Return a valid call of IOMMU_TEST_CMD to mock_domain."""
    return Call({"op": objects.uapi.IOMMU_TEST_OP_MOCK_DOMAIN, "id": objects.ioas})


@sample("IOMMU_TEST_CMD:create_access", answers=("create_access",), kinds={"id": ("ioas",)})
def create_access(objects: Objects) -> Call:
    """Return a valid call of IOMMU_TEST_CMD to make an access."""
    return Call({"op": objects.uapi.IOMMU_TEST_OP_CREATE_ACCESS, "id": objects.ioas})


@sample("IOMMU_TEST_CMD:replace", answers=("mock_domain_replace",), ignores=("id",), changes=True)
def mock_domain_replace(objects: Objects) -> Call:
    """Return a valid call of IOMMU_TEST_CMD to replace."""
    other = objects.context.ioas_alloc()
    device = objects.context.mock_device(objects.ioas)
    return Call(
        {
            "op": objects.uapi.IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE,
            "id": device.selftest,
            "mock_domain_replace": {"pt_id": other.id},
        },
        took_effect=lambda: _fails(other.destroy),
    )


def find(names: Iterable[str]) -> list[Sample]:
    """Return the samples of commands, and those of these names."""
    wanted = set(names)
    return [known for known in SAMPLES.values() if {known.command, known.name} & wanted]
