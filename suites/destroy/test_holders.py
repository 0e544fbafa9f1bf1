# SPDX-License-Identifier: GPL-2.0-only
"""What can be destroyed, and what is held by something else."""

from __future__ import annotations

from errno import EBUSY, ENOENT
from typing import TYPE_CHECKING, Any

import pytest

from pytest_iommufd import IoctlError, raises_errno, rule
from pytest_iommufd.agent.protocol import Program
from pytest_iommufd.iommufd.access import Access
from pytest_iommufd.iommufd.meanwhile import meanwhile
from pytest_iommufd.iommufd.request import Request
from pytest_iommufd.iommufd.uffd import FaultingPage

from .test_ids import FREE, FREE_NESTING

if TYPE_CHECKING:
    from pytest_iommufd.iommufd import (
        Context,
        HwptData,
    )
    from pytest_iommufd.iommufd.object import IommufdObject

# Fixtures: what holds, what is held.
HOLDERS = [
    ("device_on_other_ioas", "other_ioas"),
    ("other_hwpt", "other_ioas"),
    ("access", "other_ioas"),
    ("nested_hwpt", "parent_hwpt"),
    ("device_on_hwpt", "hwpt"),
    ("device_on_parent", "parent_hwpt"),
    ("device_on_nested", "nested_hwpt"),
    ("fault_hwpt", "closed_queue"),
    ("fault_hwpt", "parent_hwpt"),
]
HOLDERS_NESTING = [
    ("viommu", "parent_hwpt"),
    ("viommu_hwpt", "viommu"),
    ("vdevice", "viommu"),
    ("closed_veventq", "viommu"),
    ("hw_queue", "viommu"),
]
# Neither holds the other.
STRANGERS = [
    ("hwpt", "parent_hwpt"),
    ("hwpt", "selftest"),
    ("nested_hwpt", "selftest"),
    ("closed_queue", "hwpt"),
    ("ioas", "other_ioas"),
    ("access", "hwpt"),
]


def _end(target: Any) -> None:
    if isinstance(target, Access):
        target.close()
    else:
        target.destroy()


@rule("destroy.free")
@pytest.mark.parametrize("kind", FREE)
@pytest.mark.usefixtures("iommufd")
def test_free(kind, request):
    request.getfixturevalue(kind).destroy()


@rule("destroy.free.nesting")
@pytest.mark.parametrize("kind", FREE_NESTING)
@pytest.mark.usefixtures("iommufd")
def test_free_nesting(kind, request):
    request.getfixturevalue(kind).destroy()


@rule("destroy.device")
def test_device(expected, mock_device):
    for _ in range(2):
        with expected:
            mock_device.context.destroy(mock_device.id)


@rule("destroy.device.changes_nothing")
def test_device_stays(expected, iommufd, mock_device, ioas):
    with expected:
        iommufd.destroy(mock_device.id)
    mock_device.get_hw_info()
    mock_device.replace(iommufd.hwpt_alloc(mock_device, ioas))
    mock_device.destroy()


@rule("destroy.device.gone")
def test_device_is_gone(expected, mock_device):
    mock_device.destroy()
    for number in (mock_device.id, mock_device.hwpt.id):
        with expected:
            mock_device.context.destroy(number)


@rule("destroy.device.pasid")
@pytest.mark.expect_splat(
    r"WARNING: .* (iommufd_device_unbind|__iommu_group_free_device|iommufd_fops_release)\b"
)
def test_device_with_a_pasid_goes(expected, iommufd, mock_devices, ioas, uapi):
    device = mock_devices(pasid=True)
    made = iommufd.hwpt_alloc(device, ioas, flags=uapi.IOMMU_HWPT_ALLOC_PASID)
    device.replace(made)
    device.pasid_attach(3, made)
    device.destroy()
    with raises_errno(ENOENT):
        device.destroy()
    for left in (device.id, made):
        with expected:
            iommufd.destroy(left)
    iommufd.close()


@rule("destroy.access")
def test_access(expected, iommufd, ioas):
    access = ioas.create_access()
    for _ in range(2):
        with expected:
            iommufd.destroy(ioas.id + 1)
    access.close()


@rule("destroy.access.gone")
def test_access_is_gone(expected, iommufd, ioas):
    ioas.create_access().close()
    with expected:
        iommufd.destroy(ioas.id + 1)


@rule("destroy.auto_hwpt")
def test_automatic_hwpt(expected, mock_devices):
    devices = [mock_devices(), mock_devices()]
    for device in devices:
        with expected:
            device.hwpt.destroy()
        device.destroy()
    with raises_errno(ENOENT):
        devices[0].hwpt.destroy()


# ---- what holds what ----


@rule("destroy.held")
@pytest.mark.parametrize(("holder", "held"), HOLDERS)
@pytest.mark.usefixtures("iommufd")
def test_held(expected, holder, held, request):
    holding = request.getfixturevalue(holder)
    target = request.getfixturevalue(held)
    with expected:
        target.destroy()
    _end(holding)
    target.destroy()


@rule("destroy.held.nesting")
@pytest.mark.parametrize(("holder", "held"), HOLDERS_NESTING)
@pytest.mark.usefixtures("iommufd")
def test_held_nesting(expected, holder, held, request):
    holding = request.getfixturevalue(holder)
    target = request.getfixturevalue(held)
    with expected:
        target.destroy()
    holding.destroy()
    target.destroy()


@rule("destroy.held.file")
def test_file_of_a_fault_queue(expected, fault_queue):
    with expected:
        fault_queue.destroy()
    fault_queue.close()
    fault_queue.destroy()


@rule("destroy.held.veventq_file")
def test_file_of_a_veventq(expected, veventq):
    with expected:
        veventq.destroy()
    veventq.close()
    veventq.destroy()


@rule("destroy.held.changes_nothing")
def test_held_stays(expected, mock_device, ioas, buffer):
    for _ in range(5):
        with expected:
            ioas.destroy()
    ioas.map(buffer)
    mock_device.destroy()
    ioas.destroy()


@rule("destroy.held.each")
def test_held_by_several(expected, iommufd, mock_device, parent_hwpt, hwpt_type):
    nested = [iommufd.hwpt_alloc(mock_device, parent_hwpt, hwpt_type.valid()) for _ in range(3)]
    holders: list[IommufdObject] = [*nested, iommufd.mock_device(parent_hwpt)]
    for holder in holders:
        with expected:
            parent_hwpt.destroy()
        holder.destroy()
    parent_hwpt.destroy()


@rule("destroy.held.refused_call")
def test_refused_calls_hold_nothing(iommufd, mock_device, other_ioas, hwpt):
    for call in (
        lambda: iommufd.hwpt_alloc(mock_device, other_ioas, flags=1 << 31),
        lambda: iommufd.hwpt_alloc(mock_device, hwpt),
        lambda: iommufd.hwpt_alloc(9999, hwpt),
        lambda: other_ioas.unmap(0x1000, 0x1000),
        lambda: mock_device.replace(9999),
        lambda: iommufd.ioctl("IOMMU_GET_HW_INFO", dev_id=hwpt),
        lambda: iommufd.ioctl("IOMMU_HWPT_SET_DIRTY_TRACKING", hwpt_id=hwpt),
    ):
        with pytest.raises(IoctlError):
            call()
    for target in (other_ioas, hwpt, mock_device):
        target.destroy()


def _during_alloc(
    iommufd: Context, device: int, pt: int, hwpt_type: HwptData, target: int
) -> list[int]:
    """Destroy something while a nested HWPT is being made; returns the errnos of both calls.

    Args:
        iommufd: the context.
        device: what the HWPT is made for.
        pt: what it is made of.
        hwpt_type: its data.
        target: what is destroyed, while the data of the HWPT is read.
    """
    data = hwpt_type.valid()
    page = FaultingPage(iommufd.process, iommufd.process.hello.page_size, data.content)
    fields = {"dev_id": device, "pt_id": pt, "data_type": data.type}
    fields |= {"data_len": len(data.content), "data_uptr": page.address}
    alloc, destroy = Request("hwpt_alloc", fields), Request("destroy", {"id": target})
    return meanwhile(iommufd, page, alloc, destroy)


@rule("destroy.held.by_a_call")
def test_used_by_a_call(expected, iommufd, mock_device, parent_hwpt, hwpt_type):
    made, gone = _during_alloc(iommufd, mock_device.id, parent_hwpt.id, hwpt_type, parent_hwpt.id)
    expected.check(gone)
    assert made == 0


@rule("destroy.not_held")
@pytest.mark.parametrize(("one", "other"), STRANGERS)
@pytest.mark.parametrize("swapped", [False, True], ids=["as_made", "swapped"])
@pytest.mark.usefixtures("iommufd")
def test_not_held(one, other, request, swapped):
    pair = [request.getfixturevalue(one), request.getfixturevalue(other)]
    for target in reversed(pair) if swapped else pair:
        _end(target)


@rule("destroy.not_held.nesting")
def test_device_of_a_vdevice(mock_device, viommu, vdevice):
    mock_device.destroy()
    viommu.destroy()
    with raises_errno(ENOENT):
        vdevice.destroy()


@rule("destroy.race")
@pytest.mark.parametrize("kind", ["ioas", "hwpt", "selftest"])
def test_threads(expected, iommufd, kind, request):
    target: IommufdObject = request.getfixturevalue(kind)
    programs, calls = [], []
    for _ in range(4):
        program = Program()
        calls.append(iommufd.add(program, Request("destroy", {"id": target})))
        programs.append(program)
    results = iommufd.process.run_parallel(programs)
    taken = [call.take(own) for call, own in zip(calls, results, strict=True)]
    errnos = sorted(call.errno for call in taken)
    assert errnos[0] == 0
    assert set(errnos[1:]) <= {ENOENT, EBUSY}
    assert 0 not in errnos[1:]
    with expected:
        target.destroy()
