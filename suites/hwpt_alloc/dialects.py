# SPDX-License-Identifier: GPL-2.0-only
"""Which dialect of IOMMU_HWPT_ALLOC a kernel speaks: its header tells some of it, it the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_iommufd import IoctlError, Problem, absent
from pytest_iommufd.iommufd import Context, UserData
from pytest_iommufd.rules.model import OK
from pytest_iommufd.uapi import errno_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.machine import Machine
    from pytest_iommufd.uapi import Uapi

# With hwpt_type, by what becomes of data that cannot be read with the default type, and of data
# that is shorter than its struct.
_ANSWERS = {
    (OK, OK): "v2",
    ("EFAULT", OK): "v2-review",
    (OK, "EINVAL"): "v2-driver-copy",
}
_UNMAPPED = 1


def ask(machine: Machine, uapi: Uapi) -> str:
    """Find out the dialect.

    Args:
        machine: runs the kernel.
        uapi: the kernel's structs.

    Returns:
        A name of rules.toml's dialects. The test is absent of a kernel whose HWPTs have no data.

    Raises:
        Problem: it is none of them.
    """
    if uapi.has("iommu_hwpt_alloc.data_type"):
        return "mainline"
    if not uapi.has("iommu_hwpt_alloc.hwpt_type"):
        absent("the kernel's header has no iommu_hwpt_alloc.data_type, and no hwpt_type either")
    process = machine.process()
    try:
        given = _answers(Context(process, uapi))
    finally:
        process.end()
    if given not in _ANSWERS:
        raise Problem(
            "the kernel speaks no known dialect of IOMMU_HWPT_ALLOC with hwpt_type: unreadable "
            f"data of the default type gives {given[0]}, data of one byte {given[1]}",
            expected=" or ".join(f"{one} and {two}" for one, two in _ANSWERS),
            mend="add the dialect to suites/hwpt_alloc: dialects.py and rules.toml",
        )
    return _ANSWERS[given]


def _answers(iommufd: Context) -> tuple[str, str]:
    ioas = iommufd.ioas_alloc()
    device = iommufd.mock_device(ioas)
    parent = iommufd.hwpt_alloc(device, ioas)
    short = UserData(iommufd.uapi.IOMMU_HWPT_DATA_SELFTEST, b"\1")
    return (
        _outcome(lambda: iommufd.hwpt_alloc(device, ioas, data_len=4, data_uptr=_UNMAPPED)),
        _outcome(lambda: iommufd.hwpt_alloc(device, parent, short)),
    )


def _outcome(call: Callable[[], object]) -> str:
    try:
        call()
    except IoctlError as error:
        return errno_name(error.errno or 0)
    return OK
