# SPDX-License-Identifier: GPL-2.0-only
"""What holds a vDEVICE and what it holds, and what devices need it for."""

from __future__ import annotations

from errno import ENOENT
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import raises_errno, rule
from pytest_iommufd.agent.protocol import Program

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.iommufd import Context, Hwpt, HwptData, Ioas, MockDevice, Viommu
    from pytest_iommufd.iommufd.object import IommufdObject
    from pytest_iommufd.rules.expectation import Expectation
    from pytest_iommufd.uapi import Uapi

DEC_WAIT_SECONDS = 70.0


@rule("vdevice.lifetime.viommu")
def test_vdevice_holds_its_viommu(
    expected: Expectation, viommu: Viommu, vdevice: IommufdObject
) -> None:
    with expected:
        viommu.destroy()
    vdevice.destroy()
    viommu.destroy()


@rule("vdevice.lifetime.device_id")
def test_device_cannot_be_destroyed_by_its_id(
    expected: Expectation, iommufd: Context, mock_device: MockDevice, vdevice: IommufdObject
) -> None:
    with expected:
        iommufd.destroy(mock_device.id)
    vdevice.destroy()
    with expected:
        iommufd.destroy(mock_device.id)


@rule("vdevice.lifetime.gone")
def test_destroyed_vdevice_is_gone(expected: Expectation, vdevice: IommufdObject) -> None:
    vdevice.destroy()
    with expected:
        vdevice.destroy()


@rule("vdevice.lifetime.context")
def test_context_may_be_closed_with_a_vdevice(
    iommufd: Context, viommu: Viommu, other_device: MockDevice, vdevice: IommufdObject
) -> None:
    assert viommu.vdevice_alloc(other_device, 1).id != vdevice.id
    iommufd.close()


# ---- a device that goes first ----


@rule("vdevice.tombstone.gone")
def test_vdevice_goes_with_its_device(
    expected: Expectation,
    viommu: Viommu,
    other_device: MockDevice,
    known: Callable[[Viommu, int], bool],
) -> None:
    made = viommu.vdevice_alloc(other_device, 0x55)
    other_device.destroy()
    assert not known(viommu, 0x55)
    with expected:
        made.destroy()


@rule("vdevice.tombstone.viommu")
def test_vdevice_that_went_lets_go_of_its_viommu(viommu: Viommu, other_device: MockDevice) -> None:
    viommu.vdevice_alloc(other_device, 0x55)
    other_device.destroy()
    viommu.destroy()


@rule("vdevice.tombstone.virt_id")
def test_virt_id_of_a_vdevice_that_went_is_free(
    viommu: Viommu, mock_device: MockDevice, other_device: MockDevice
) -> None:
    viommu.vdevice_alloc(other_device, 0x55)
    other_device.destroy()
    viommu.vdevice_alloc(mock_device, 0x55).destroy()


@rule("vdevice.tombstone.id")
def test_id_of_a_vdevice_that_went_is_never_given_again(
    iommufd: Context, viommu: Viommu, other_device: MockDevice
) -> None:
    made = viommu.vdevice_alloc(other_device, 0x55)
    other_device.destroy()
    assert made.id not in [iommufd.ioas_alloc().id for _ in range(20)]


@rule("vdevice.tombstone.id_of_the_device")
def test_id_of_the_device_is_given_again(
    iommufd: Context, viommu: Viommu, other_device: MockDevice
) -> None:
    viommu.vdevice_alloc(other_device, 0x55)
    other_device.destroy()
    assert other_device.id in [iommufd.ioas_alloc().id for _ in range(20)]


@rule("vdevice.tombstone.attached")
def test_vdevice_goes_with_an_attached_device(
    expected: Expectation,
    iommufd: Context,
    viommu: Viommu,
    other_device: MockDevice,
    hwpt_type: HwptData,
) -> None:
    made = viommu.vdevice_alloc(other_device, 0x55)
    nested = iommufd.hwpt_alloc(other_device, viommu, hwpt_type.valid())
    other_device.replace(nested)
    other_device.destroy()
    with expected:
        made.destroy()
    nested.destroy()
    viommu.destroy()


@rule("vdevice.tombstone.race")
@pytest.mark.no_fail_nth("two threads make the calls, not the test itself")
def test_device_goes_while_its_vdevice_is_made(
    iommufd: Context, uapi: Uapi, viommu: Viommu, other_device: MockDevice
) -> None:
    alloc = uapi.struct(
        "iommu_vdevice_alloc",
        size=uapi.sizeof("iommu_vdevice_alloc"),
        viommu_id=viommu.id,
        dev_id=other_device.id,
        virt_id=0x55,
    )
    destroy = uapi.struct("iommu_destroy", size=8, id=other_device.selftest.id)
    programs = []
    for name, argument in (("IOMMU_VDEVICE_ALLOC", alloc), ("IOMMU_DESTROY", destroy)):
        program = Program()
        address = iommufd.put(bytes(argument))
        program.syscall("ioctl", iommufd.fd, uapi.ioctl(name).number, address)
        programs.append(program)
    # iommufd_object_dec_wait() of a kernel that does not wake it sleeps for a minute
    made, gone = iommufd.process.run_parallel(programs, seconds=DEC_WAIT_SECONDS)
    assert gone[0].errno == 0
    assert made[0].errno in (0, ENOENT)
    viommu.destroy()


# ---- attaching to a nested HWPT of the vIOMMU ----


@rule("vdevice.attach.without")
def test_device_without_a_vdevice_cannot_be_attached(
    expected: Expectation, mock_device: MockDevice, viommu_hwpt: Hwpt
) -> None:
    with expected:
        mock_device.replace(viommu_hwpt)
    viommu_hwpt.destroy()


@rule("vdevice.attach.without.new_device")
def test_new_device_cannot_be_attached(
    expected: Expectation, iommufd: Context, viommu_hwpt: Hwpt
) -> None:
    with expected:
        iommufd.mock_device(viommu_hwpt)
    viommu_hwpt.destroy()


@rule("vdevice.attach.other_viommu")
def test_device_with_a_vdevice_of_another_viommu_cannot_be_attached(
    expected: Expectation, mock_device: MockDevice, other_viommu: Viommu, viommu_hwpt: Hwpt
) -> None:
    other_viommu.vdevice_alloc(mock_device)
    with expected:
        mock_device.replace(viommu_hwpt)


@rule("vdevice.attach.sibling")
def test_device_cannot_be_attached_with_the_vdevice_of_another(
    expected: Expectation, other_device: MockDevice, vdevice: IommufdObject, viommu_hwpt: Hwpt
) -> None:
    with expected:
        other_device.replace(viommu_hwpt)
    vdevice.destroy()


@rule("vdevice.attach.with")
def test_device_with_a_vdevice_is_attached(
    mock_device: MockDevice, ioas: Ioas, viommu_hwpt: Hwpt, viommu: Viommu
) -> None:
    with raises_errno(ENOENT):
        mock_device.replace(viommu_hwpt)
    viommu.vdevice_alloc(mock_device)
    assert mock_device.replace(viommu_hwpt) == viommu_hwpt.id
    mock_device.replace(ioas)
    viommu_hwpt.destroy()


@rule("vdevice.attach.destroyed_meanwhile")
def test_vdevice_of_an_attached_device_may_go(
    expected: Expectation,
    mock_device: MockDevice,
    ioas: Ioas,
    viommu_hwpt: Hwpt,
    vdevice: IommufdObject,
) -> None:
    mock_device.replace(viommu_hwpt)
    vdevice.destroy()
    mock_device.replace(ioas)
    with expected:
        mock_device.replace(viommu_hwpt)


@rule("vdevice.attach.busy")
def test_attached_hwpt_is_held(
    expected: Expectation,
    mock_device: MockDevice,
    ioas: Ioas,
    viommu_hwpt: Hwpt,
    vdevice: IommufdObject,
) -> None:
    mock_device.replace(viommu_hwpt)
    vdevice.destroy()
    with expected:
        viommu_hwpt.destroy()
    mock_device.replace(ioas)
    viommu_hwpt.destroy()
