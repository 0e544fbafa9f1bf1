# SPDX-License-Identifier: GPL-2.0-only
"""Which calls make a vDEVICE."""

from __future__ import annotations

from errno import EFAULT

import pytest

from pytest_iommufd import raises_errno, rule
from pytest_iommufd.iommufd import Context

UNKNOWN = [0, 9999, 0x7FFF_FFFF, 0xFFFF_FFFF]
NO_VIOMMUS = ["ioas", "parent_hwpt", "viommu_hwpt", "mock_device", "veventq", "vdevice"]
NO_DEVICES = ["ioas", "parent_hwpt", "selftest_object", "viommu", "veventq", "fault_queue"]


@rule("vdevice.size.below_minimum")
def test_size_below_the_minimum(expected, viommu, mock_device):
    for size in [0, 4, 16, 23]:
        with expected:
            viommu.vdevice_alloc(mock_device, size=size)


@rule("vdevice.size.tail_zero")
def test_tail_of_zeroes(viommu, mock_device):
    with viommu.context.sending(tail=bytes(8)):
        viommu.vdevice_alloc(mock_device).destroy()


@rule("vdevice.size.tail_nonzero")
def test_tail_that_is_not_zero(expected, viommu, mock_device):
    with expected, viommu.context.sending(tail=b"\0\0\0\1"):
        viommu.vdevice_alloc(mock_device)


@rule("vdevice.viommu_id.names_nothing")
def test_viommu_id_names_nothing(expected, viommu, mock_device):
    for number in UNKNOWN:
        with expected:
            viommu.vdevice_alloc(mock_device, viommu_id=number)


@rule("vdevice.viommu_id.other_type")
def test_viommu_id_of_another_type(expected, viommu, other_device, request):
    for kind in NO_VIOMMUS:
        wrong = request.getfixturevalue(kind)
        with expected:
            viommu.vdevice_alloc(other_device, viommu_id=wrong)


@rule("vdevice.viommu_id.destroyed")
def test_viommu_id_of_a_destroyed_viommu(expected, viommu, mock_device):
    viommu.destroy()
    with expected:
        viommu.vdevice_alloc(mock_device)


@rule("vdevice.viommu_id.before_device")
def test_viommu_id_is_looked_at_before_the_device(expected, viommu, mock_device, vdevice):
    with expected:
        viommu.vdevice_alloc(mock_device, viommu_id=0)
    vdevice.destroy()


@rule("vdevice.dev_id.names_nothing")
def test_dev_id_names_nothing(expected, viommu):
    for number in UNKNOWN:
        with expected:
            viommu.vdevice_alloc(number)
    viommu.destroy()


@rule("vdevice.dev_id.other_type")
def test_dev_id_of_another_type(expected, viommu, request):
    for kind in NO_DEVICES:
        wrong = request.getfixturevalue(kind)
        with expected:
            viommu.vdevice_alloc(wrong)


@rule("vdevice.dev_id.destroyed")
def test_dev_id_of_a_destroyed_device(expected, viommu, other_device):
    other_device.destroy()
    with expected:
        viommu.vdevice_alloc(other_device)


@rule("vdevice.dev_id.other_context")
def test_dev_id_of_another_context(expected, viommu, ledger, uapi):
    other = Context(ledger.process, uapi)
    ledger.contexts.append(other)
    padding = [other.ioas_alloc() for _ in range(20)]
    stranger = other.mock_device(padding[0])
    with expected:
        viommu.vdevice_alloc(stranger)


@rule("vdevice.device.twice")
@pytest.mark.parametrize("virt_id", [0x99, 0x98], ids=["same_id", "other_id"])
def test_device_has_a_vdevice_already(expected, viommu, mock_device, vdevice, known, virt_id):
    with expected:
        viommu.vdevice_alloc(mock_device, virt_id)
    assert known(viommu, 0x99)
    assert not known(viommu, 0x98)
    vdevice.destroy()
    viommu.destroy()


@rule("vdevice.device.twice.other_viommu")
def test_device_has_a_vdevice_of_another_viommu(
    expected, viommu, other_viommu, mock_device, vdevice
):
    with expected:
        other_viommu.vdevice_alloc(mock_device)
    other_viommu.destroy()
    vdevice.destroy()
    viommu.destroy()


@rule("vdevice.device.again")
def test_device_may_have_a_vdevice_again(viommu, other_viommu, mock_device, vdevice):
    vdevice.destroy()
    viommu.vdevice_alloc(mock_device).destroy()
    other_viommu.vdevice_alloc(mock_device).destroy()


@rule("vdevice.device.other")
def test_device_that_the_viommu_was_not_made_for(viommu, other_device, known):
    viommu.vdevice_alloc(other_device, 0x55)
    assert known(viommu, 0x55)


@rule("vdevice.virt_id.taken")
def test_virt_id_is_taken(expected, viommu, vdevice, other_device, known):
    with expected:
        viommu.vdevice_alloc(other_device, 0x99)
    assert known(viommu, 0x99)
    viommu.vdevice_alloc(other_device, 0x9A).destroy()
    vdevice.destroy()
    viommu.destroy()


@rule("vdevice.virt_id.any")
def test_any_virt_id(viommu, mock_device):
    for virt_id in [0, 1, 1 << 32, (1 << 64) - 1]:
        viommu.vdevice_alloc(mock_device, virt_id).destroy()


@rule("vdevice.virt_id.all_bits")
def test_virt_id_has_all_its_bits(viommu, mock_device, other_device):
    viommu.vdevice_alloc(mock_device, 5)
    viommu.vdevice_alloc(other_device, (1 << 32) + 5).destroy()


@rule("vdevice.virt_id.per_viommu")
def test_virt_id_is_the_viommus_own(viommu, other_viommu, vdevice, other_device, known):
    other = other_viommu.vdevice_alloc(other_device, 0x99)
    other.destroy()
    assert known(viommu, 0x99)
    assert not known(other_viommu, 0x99)
    vdevice.destroy()


@rule("vdevice.virt_id.again")
def test_virt_id_may_be_taken_again(viommu, vdevice, other_device, known):
    vdevice.destroy()
    assert not known(viommu, 0x99)
    viommu.vdevice_alloc(other_device, 0x99)
    assert known(viommu, 0x99)


@rule("vdevice.undone.unwritable")
def test_id_cannot_be_told(expected, unwritable, viommu, mock_device, other_device):
    with expected:
        unwritable("IOMMU_VDEVICE_ALLOC", viommu_id=viommu, dev_id=mock_device, virt_id=0x99)
    other = viommu.vdevice_alloc(other_device, 0x99)
    viommu.vdevice_alloc(mock_device, 0x98).destroy()
    other.destroy()
    viommu.destroy()


@rule("vdevice.undone.device_may_go")
def test_device_of_a_failed_call_may_go(unwritable, viommu, other_device):
    with raises_errno(EFAULT):
        unwritable("IOMMU_VDEVICE_ALLOC", viommu_id=viommu, dev_id=other_device, virt_id=1)
    other_device.destroy()


@rule("vdevice.failure.lookup")
@pytest.mark.parametrize("nth", [1, 2], ids=["viommu", "device"])
def test_lookup_fails(expected, viommu, mock_device, nth):
    with expected, viommu.context.sending(fail_nth=nth):
        viommu.vdevice_alloc(mock_device)
    viommu.vdevice_alloc(mock_device).destroy()
    viommu.destroy()


@rule("vdevice.failure.memory")
def test_no_memory(expected, viommu, mock_device, other_ioas):
    with expected, viommu.context.sending(fail_nth=3):
        viommu.vdevice_alloc(mock_device)
    viommu.vdevice_alloc(mock_device).destroy()
    viommu.destroy()
    other_ioas.destroy()
