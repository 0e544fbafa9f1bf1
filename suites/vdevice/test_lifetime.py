# SPDX-License-Identifier: GPL-2.0-only
"""What holds a vDEVICE and what it holds, and what devices need it for."""

from __future__ import annotations

from errno import ENOENT

import pytest

from pytest_iommufd import raises_errno, rule
from pytest_iommufd.agent.protocol import Program
from pytest_iommufd.iommufd.request import Request

DEC_WAIT_SECONDS = 70.0


@rule("vdevice.lifetime.viommu")
def test_vdevice_holds_its_viommu(expected, viommu, vdevice):
    with expected:
        viommu.destroy()
    vdevice.destroy()
    viommu.destroy()


@rule("vdevice.lifetime.device_id")
def test_device_cannot_be_destroyed_by_its_id(expected, iommufd, mock_device, vdevice):
    with expected:
        iommufd.destroy(mock_device.id)
    vdevice.destroy()
    with expected:
        iommufd.destroy(mock_device.id)


@rule("vdevice.lifetime.gone")
def test_destroyed_vdevice_is_gone(expected, vdevice):
    vdevice.destroy()
    with expected:
        vdevice.destroy()


@rule("vdevice.lifetime.context")
def test_context_may_be_closed_with_a_vdevice(iommufd, viommu, other_device, vdevice):
    assert viommu.vdevice_alloc(other_device, 1).id != vdevice.id
    iommufd.close()


# ---- a device that goes first ----


@rule("vdevice.tombstone.gone")
def test_vdevice_goes_with_its_device(expected, viommu, other_device, known):
    made = viommu.vdevice_alloc(other_device, 0x55)
    other_device.destroy()
    assert not known(viommu, 0x55)
    with expected:
        made.destroy()


@rule("vdevice.tombstone.viommu")
def test_vdevice_that_went_lets_go_of_its_viommu(viommu, other_device):
    viommu.vdevice_alloc(other_device, 0x55)
    other_device.destroy()
    viommu.destroy()


@rule("vdevice.tombstone.virt_id")
def test_virt_id_of_a_vdevice_that_went_is_free(viommu, mock_device, other_device):
    viommu.vdevice_alloc(other_device, 0x55)
    other_device.destroy()
    viommu.vdevice_alloc(mock_device, 0x55).destroy()


@rule("vdevice.tombstone.id")
def test_id_of_a_vdevice_that_went_is_never_given_again(iommufd, viommu, other_device):
    made = viommu.vdevice_alloc(other_device, 0x55)
    other_device.destroy()
    assert made.id not in [iommufd.ioas_alloc().id for _ in range(20)]


@rule("vdevice.tombstone.id_of_the_device")
def test_id_of_the_device_is_given_again(iommufd, viommu, other_device):
    viommu.vdevice_alloc(other_device, 0x55)
    other_device.destroy()
    assert other_device.id in [iommufd.ioas_alloc().id for _ in range(20)]


@rule("vdevice.tombstone.attached")
def test_vdevice_goes_with_an_attached_device(expected, iommufd, viommu, other_device, hwpt_type):
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
def test_device_goes_while_its_vdevice_is_made(iommufd, viommu, other_device):
    fields = {"viommu_id": viommu, "dev_id": other_device, "virt_id": 0x55}
    programs = alloc, destroy = Program(), Program()
    made = iommufd.add(alloc, Request("IOMMU_VDEVICE_ALLOC", fields))
    gone = iommufd.add(destroy, Request("IOMMU_DESTROY", {"id": other_device.selftest}))
    # iommufd_object_dec_wait() of a kernel that does not wake it sleeps for a minute
    results = iommufd.process.run_parallel(programs, seconds=DEC_WAIT_SECONDS)
    gone.take(results[1]).check()
    assert made.take(results[0]).errno in (0, ENOENT)
    viommu.destroy()


# ---- attaching to a nested HWPT of the vIOMMU ----


@rule("vdevice.attach.without")
def test_device_without_a_vdevice_cannot_be_attached(expected, mock_device, viommu_hwpt):
    with expected:
        mock_device.replace(viommu_hwpt)
    viommu_hwpt.destroy()


@rule("vdevice.attach.without.new_device")
def test_new_device_cannot_be_attached(expected, iommufd, viommu_hwpt):
    with expected:
        iommufd.mock_device(viommu_hwpt)
    viommu_hwpt.destroy()


@rule("vdevice.attach.other_viommu")
def test_device_with_a_vdevice_of_another_viommu_cannot_be_attached(
    expected, mock_device, other_viommu, viommu_hwpt
):
    other_viommu.vdevice_alloc(mock_device)
    with expected:
        mock_device.replace(viommu_hwpt)


@rule("vdevice.attach.sibling")
def test_device_cannot_be_attached_with_the_vdevice_of_another(
    expected, other_device, vdevice, viommu_hwpt
):
    with expected:
        other_device.replace(viommu_hwpt)
    vdevice.destroy()


@rule("vdevice.attach.with")
def test_device_with_a_vdevice_is_attached(mock_device, ioas, viommu_hwpt, viommu):
    with raises_errno(ENOENT):
        mock_device.replace(viommu_hwpt)
    viommu.vdevice_alloc(mock_device)
    assert mock_device.replace(viommu_hwpt) == viommu_hwpt.id
    mock_device.replace(ioas)
    viommu_hwpt.destroy()


@rule("vdevice.attach.destroyed_meanwhile")
def test_vdevice_of_an_attached_device_may_go(expected, mock_device, ioas, viommu_hwpt, vdevice):
    mock_device.replace(viommu_hwpt)
    vdevice.destroy()
    mock_device.replace(ioas)
    with expected:
        mock_device.replace(viommu_hwpt)


@rule("vdevice.attach.busy")
def test_attached_hwpt_is_held(expected, mock_device, ioas, viommu_hwpt, vdevice):
    mock_device.replace(viommu_hwpt)
    vdevice.destroy()
    with expected:
        viommu_hwpt.destroy()
    mock_device.replace(ioas)
    viommu_hwpt.destroy()
