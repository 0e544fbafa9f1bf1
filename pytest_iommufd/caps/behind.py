# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel can be asked with a device: what the driver of its IOMMU supports."""

from __future__ import annotations

from errno import EINVAL, ENODEV, ENOTTY, EOPNOTSUPP
from typing import TYPE_CHECKING, Any

from pytest_iommufd.caps.model import State
from pytest_iommufd.caps.plain import PAGES, pages
from pytest_iommufd.hwpt_types.shipped import TYPES
from pytest_iommufd.iommufd import IoctlError, VfioDevice
from pytest_iommufd.iommufd.file import IoctlFile
from pytest_iommufd.iommufd.vfio import VfioContainer
from pytest_iommufd.uapi import errno_name

if TYPE_CHECKING:
    from pytest_iommufd.caps.asker import Asker
    from pytest_iommufd.iommufd import Ioas, MockDevice
    from pytest_iommufd.machine.passthrough import Node

HWPT_FLAGS = "IOMMU_HWPT_ALLOC.flags of an IOAS"
NESTED_FLAGS = "IOMMU_HWPT_ALLOC.flags of a parent"
DATA_TYPES = "IOMMU_HWPT_ALLOC.data_type"
HWPT_INVALIDATE = "IOMMU_HWPT_INVALIDATE.data_type of a nested HWPT"
VIOMMU_INVALIDATE = "IOMMU_HWPT_INVALIDATE.data_type of a vIOMMU"
VIOMMU_TYPES = "IOMMU_VIOMMU_ALLOC.type"
QUEUE_TYPES = "IOMMU_HW_QUEUE_ALLOC.type"
ATTACH_FLAGS = "VFIO_DEVICE_ATTACH_IOMMUFD_PT.flags"
ATTACH_PASID = "VFIO_DEVICE_ATTACH_PASID"
HW_INFO = "IOMMU_GET_HW_INFO"
PASIDS = "out_max_pasid_log2"
FAULTS = "page faults"
IOPF = "a device attached to a HWPT with a fault queue"

# Of one byte, which is too little for any type of data.
_SHORT = {"data_len": 1, "data_uptr": b"\0"}
# What user space is told of a type that is not supported, by drivers that differ.
_NO_TYPE = frozenset({EINVAL, EOPNOTSUPP})
_SPARE_FLAG = 1 << 31
_FLAGS = "iommu_hwpt_alloc.flags"


def mock(asker: Asker) -> None:
    """Ask with a mock device of iommufd_test.

    Raises:
        IoctlError: a mock device cannot be made.
    """
    context = asker.context
    ioas = context.ioas_alloc()
    device = context.mock_device(ioas)
    nested = _driver(asker, device, ioas)
    _faults(asker, device, nested)
    if context.uapi.has("MOCK_FLAGS_DEVICE_PASID"):
        flags = context.uapi.MOCK_FLAGS_DEVICE_PASID
        _pasids(asker, context.mock_device(context.ioas_alloc(), flags))
    else:
        asker.note(HW_INFO, PASIDS, State.NO, "iommufd_test makes no device with PASIDs")


def real(asker: Asker, node: Node) -> None:
    """Ask with a real device.

    Raises:
        IoctlError: it cannot be bound, or cannot be attached to an IOAS.
    """
    device = VfioDevice(asker.context, node)
    device.bind_iommufd()
    _attach_flags(asker, device)
    ioas = asker.context.ioas_alloc()
    device.attach_iommufd_pt(ioas)
    _driver(asker, device, ioas)
    _pasids(asker, device)


def _driver(asker: Asker, device: MockDevice | VfioDevice, ioas: Ioas) -> dict[str, Any] | None:
    """Ask what the driver of a device's IOMMU supports.

    Returns:
        The fields of a call that makes a nested HWPT; None where there cannot be one.
    """
    _info(asker, device, ioas)

    given = {"dev_id": device, "pt_id": ioas}
    asker.flags(HWPT_FLAGS, _FLAGS, "IOMMU_HWPT_ALLOC", given)
    flags = asker.context.uapi.IOMMU_HWPT_ALLOC_NEST_PARENT
    if refusal := asker.errno("IOMMU_HWPT_ALLOC", **given, flags=flags):
        _no_parents(asker, f"IOMMU_HWPT_ALLOC_NEST_PARENT gives {errno_name(refusal)}")
        return None
    parent = asker.context.hwpt_alloc(device, ioas, flags=flags)
    nested = _nested(asker, {"dev_id": device, "pt_id": parent})
    _viommus(asker, {"dev_id": device, "hwpt_id": parent})
    return nested


def _no_parents(asker: Asker, why: str) -> None:
    """Note that there is nothing that needs a parent."""
    asker.note_all(NESTED_FLAGS, asker.headers.values(_FLAGS), State.NO, why)
    asker.note_all(DATA_TYPES, _types(asker, "iommu_hwpt_alloc.data_type"), State.NO, why)
    asker.note_all(HWPT_INVALIDATE, _invalidations(asker, "HWPT"), State.NO, why)
    asker.note_all(VIOMMU_TYPES, _types(asker, "iommu_viommu_alloc.type"), State.NO, why)
    asker.note_all(VIOMMU_INVALIDATE, _invalidations(asker, "VIOMMU"), State.NO, why)
    asker.note_all(QUEUE_TYPES, _types(asker, "iommu_hw_queue_alloc.type"), State.NO, why)


def _nested(asker: Asker, given: dict[str, Any]) -> dict[str, Any] | None:
    """Ask about nested HWPTs.

    Args:
        asker: asks.
        given: the device and the parent.

    Returns:
        The fields of a call that makes one; None where none could be made.
    """
    types = _types(asker, "iommu_hwpt_alloc.data_type")
    asker.types(DATA_TYPES, types, "IOMMU_HWPT_ALLOC", "data_type", given | _SHORT)
    uapi = asker.context.uapi
    data = [kind.of(uapi).valid() for kind in TYPES if uapi.has(kind.struct)]
    calls = [
        given | {"data_len": len(each.content), "data_uptr": each.content, "data_type": each.type}
        for each in data
    ]
    valid = next((call for call in calls if not asker.errno("IOMMU_HWPT_ALLOC", **call)), None)
    requests = _invalidations(asker, "HWPT")
    if valid is None:
        why = "no nested HWPT could be made"
        asker.note_all(NESTED_FLAGS, asker.headers.values(_FLAGS), State.UNKNOWN, why)
        asker.note_all(HWPT_INVALIDATE, requests, State.UNKNOWN, why)
        return None
    asker.flags(NESTED_FLAGS, _FLAGS, "IOMMU_HWPT_ALLOC", valid)
    made = asker.context.ioctl("IOMMU_HWPT_ALLOC", **valid).out_hwpt_id
    _ask_invalidations(asker, HWPT_INVALIDATE, requests, made)
    return valid


def _viommus(asker: Asker, given: dict[str, Any]) -> None:
    """Ask about vIOMMUs.

    Args:
        asker: asks.
        given: the device and the parent.
    """
    types = _types(asker, "iommu_viommu_alloc.type")
    queues = _types(asker, "iommu_hw_queue_alloc.type")
    requests = _invalidations(asker, "VIOMMU")
    asker.types(VIOMMU_TYPES, types, "IOMMU_VIOMMU_ALLOC", "type", given)
    answers = asker.errnos("IOMMU_VIOMMU_ALLOC", "type", types.values(), given)
    able = [number for number, got in answers.items() if not got]
    if not able:
        absent = ENOTTY in answers.values()
        state = State.NO if absent else State.UNKNOWN
        why = "IOMMU_VIOMMU_ALLOC gives ENOTTY" if absent else "no vIOMMU could be made"
        asker.note_all(VIOMMU_INVALIDATE, requests, state, why)
        asker.note_all(QUEUE_TYPES, queues, state, why)
        return
    viommu = asker.context.ioctl("IOMMU_VIOMMU_ALLOC", **given, type=able[0]).out_viommu_id
    _ask_invalidations(asker, VIOMMU_INVALIDATE, requests, viommu)
    queue = {"viommu_id": viommu, "length": 1}
    asker.types(QUEUE_TYPES, queues, "IOMMU_HW_QUEUE_ALLOC", "type", queue)


def _faults(asker: Asker, device: MockDevice, nested: dict[str, Any] | None) -> None:
    """Ask whether a device can be attached to a HWPT with a fault queue."""
    context = asker.context
    if nested is None or not context.has("IOMMU_FAULT_QUEUE_ALLOC"):
        why = "IOMMU_FAULT_QUEUE_ALLOC gives ENOTTY" if nested else "no nested HWPT could be made"
        asker.note(FAULTS, IOPF, State.NO if nested else State.UNKNOWN, why)
        return
    flags = context.uapi.IOMMU_HWPT_FAULT_ID_VALID
    queue = context.fault_queue_alloc()
    try:
        made = context.ioctl("IOMMU_HWPT_ALLOC", **nested, flags=flags, fault_id=queue)
        device.replace(made.out_hwpt_id)
    except IoctlError as error:
        option = ": no CONFIG_IOMMU_IOPF" if error.errno == ENODEV else ""
        asker.note(FAULTS, IOPF, State.NO, f"{errno_name(error.errno or 0)}{option}")
    else:
        asker.note(FAULTS, IOPF, State.YES, "OK")


def _attach_flags(asker: Asker, device: VfioDevice) -> None:
    """Ask whether PASIDs can be attached, with a page table that does not exist."""
    name, uapi = ATTACH_PASID, asker.headers.of(ATTACH_PASID)
    file = IoctlFile(asker.process, uapi, device.fd)
    values = {name: getattr(uapi, name)}
    numbers = [*values.values(), _SPARE_FLAG]
    answers = asker.errnos("VFIO_DEVICE_ATTACH_IOMMUFD_PT", "flags", numbers, {"pasid": 1}, file)
    asker.values(ATTACH_FLAGS, values, answers, _NO_TYPE, _SPARE_FLAG)


def _info(asker: Asker, device: MockDevice | VfioDevice, ioas: Ioas) -> None:
    """Note what the kernel tells of a device's IOMMU."""
    kinds = {
        number: name for name, number in asker.headers.values("iommu_hw_info.out_data_type").items()
    }
    info = device.get_hw_info()
    kind = info.out_data_type
    asker.note(HW_INFO, "out_data_type", State.YES, value=kinds.get(kind, hex(kind)))
    for name, bit in asker.headers.values("iommu_hw_info.out_capabilities").items():
        state = State.YES if info.out_capabilities & bit else State.NO
        why = f"out_capabilities is {info.out_capabilities:#x}"
        asker.note(HW_INFO, name, state, why, header=name)
    op = asker.context.uapi.IOMMU_VFIO_IOAS_SET
    asker.context.ioctl("IOMMU_VFIO_IOAS", op=op, ioas_id=ioas)
    sizes = VfioContainer(asker.context).get_info().iova_pgsizes
    asker.note(PAGES, "the IOMMU's, for VFIO", State.YES, value=pages(sizes))
    asker.note(PAGES, "IOVA alignment", State.YES, value=pages(ioas.alignment()))


def _pasids(asker: Asker, device: MockDevice | VfioDevice) -> None:
    """Note how many PASIDs a device has; a kernel whose header lacks the field tells none."""
    header = "iommu_hw_info.out_max_pasid_log2"
    info = device.get_hw_info()
    bits = info.out_max_pasid_log2 if asker.context.uapi.has(header) else 0
    state = State.YES if bits else State.NO
    asker.note(HW_INFO, PASIDS, state, value=f"{bits} bits" if bits else "", header=header)


def _types(asker: Asker, path: str) -> dict[str, int]:
    """Return the values of a field but for 0, which says that there is nothing of the kind."""
    return {name: number for name, number in asker.headers.values(path).items() if number}


def _invalidations(asker: Asker, target: str) -> dict[str, int]:
    """Return the types of invalidation requests to a "HWPT" or a "VIOMMU"."""
    values = asker.headers.values("iommu_hwpt_invalidate.data_type")
    start = f"IOMMU_{target}_INVALIDATE_DATA_"
    # iommufd_test has names for types that it rejects
    return {
        name: number
        for name, number in values.items()
        if name.startswith(start) and not name.endswith("_INVALID")
    }


def _ask_invalidations(asker: Asker, about: str, types: dict[str, int], target: int) -> None:
    """Ask for types of invalidation requests as iommufd.h says: without entries."""
    given = {"hwpt_id": target}
    asker.types(about, types, "IOMMU_HWPT_INVALIDATE", "data_type", given, _NO_TYPE)
