# SPDX-License-Identifier: GPL-2.0-only
"""Which calls make a vDEVICE."""

from __future__ import annotations

from errno import EFAULT
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import raises_errno, rule
from pytest_iommufd.iommufd import Context

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.iommufd import Ioas, MockDevice, Viommu
    from pytest_iommufd.iommufd.leaks import Ledger
    from pytest_iommufd.iommufd.object import IommufdObject
    from pytest_iommufd.rules.expectation import Expectation
    from pytest_iommufd.uapi import Uapi

UNKNOWN = [0, 9999, 0x7FFF_FFFF, 0xFFFF_FFFF]
NO_VIOMMUS = ["ioas", "parent_hwpt", "viommu_hwpt", "mock_device", "veventq", "vdevice"]
NO_DEVICES = ["ioas", "parent_hwpt", "selftest_object", "viommu", "veventq", "fault_queue"]


@rule("vdevice.size.below_minimum")
def test_size_below_the_minimum(
    expected: Expectation, viommu: Viommu, mock_device: MockDevice
) -> None:
    for size in [0, 4, 16, 23]:
        with expected:
            viommu.vdevice_alloc(mock_device, size=size)


@rule("vdevice.size.tail_zero")
def test_tail_of_zeroes(viommu: Viommu, mock_device: MockDevice) -> None:
    viommu.vdevice_alloc(mock_device, tail=bytes(8)).destroy()


@rule("vdevice.size.tail_nonzero")
def test_tail_that_is_not_zero(
    expected: Expectation, viommu: Viommu, mock_device: MockDevice
) -> None:
    with expected:
        viommu.vdevice_alloc(mock_device, tail=b"\0\0\0\1")


@rule("vdevice.viommu_id.names_nothing")
def test_viommu_id_names_nothing(
    expected: Expectation, viommu: Viommu, mock_device: MockDevice
) -> None:
    for number in UNKNOWN:
        with expected:
            viommu.vdevice_alloc(mock_device, viommu_id=number)


@rule("vdevice.viommu_id.other_type")
def test_viommu_id_of_another_type(
    expected: Expectation, viommu: Viommu, other_device: MockDevice, request: pytest.FixtureRequest
) -> None:
    for kind in NO_VIOMMUS:
        wrong = request.getfixturevalue(kind)
        with expected:
            viommu.vdevice_alloc(other_device, viommu_id=wrong)


@rule("vdevice.viommu_id.destroyed")
def test_viommu_id_of_a_destroyed_viommu(
    expected: Expectation, viommu: Viommu, mock_device: MockDevice
) -> None:
    viommu.destroy()
    with expected:
        viommu.vdevice_alloc(mock_device)


@rule("vdevice.viommu_id.before_device")
def test_viommu_id_is_looked_at_before_the_device(
    expected: Expectation, viommu: Viommu, mock_device: MockDevice, vdevice: IommufdObject
) -> None:
    with expected:
        viommu.vdevice_alloc(mock_device, viommu_id=0)
    vdevice.destroy()


@rule("vdevice.dev_id.names_nothing")
def test_dev_id_names_nothing(expected: Expectation, viommu: Viommu) -> None:
    for number in UNKNOWN:
        with expected:
            viommu.vdevice_alloc(number)
    viommu.destroy()


@rule("vdevice.dev_id.other_type")
def test_dev_id_of_another_type(
    expected: Expectation, viommu: Viommu, request: pytest.FixtureRequest
) -> None:
    for kind in NO_DEVICES:
        wrong = request.getfixturevalue(kind)
        with expected:
            viommu.vdevice_alloc(wrong)


@rule("vdevice.dev_id.destroyed")
def test_dev_id_of_a_destroyed_device(
    expected: Expectation, viommu: Viommu, other_device: MockDevice
) -> None:
    other_device.destroy()
    with expected:
        viommu.vdevice_alloc(other_device)


@rule("vdevice.dev_id.other_context")
def test_dev_id_of_another_context(
    expected: Expectation, viommu: Viommu, ledger: Ledger, uapi: Uapi
) -> None:
    other = Context(ledger.process, uapi)
    ledger.contexts.append(other)
    padding = [other.ioas_alloc() for _ in range(20)]
    stranger = other.mock_device(padding[0])
    with expected:
        viommu.vdevice_alloc(stranger)


@rule("vdevice.device.twice")
@pytest.mark.parametrize("virt_id", [0x99, 0x98], ids=["same_id", "other_id"])
def test_device_has_a_vdevice_already(
    expected: Expectation,
    viommu: Viommu,
    mock_device: MockDevice,
    vdevice: IommufdObject,
    known: Callable[[Viommu, int], bool],
    virt_id: int,
) -> None:
    with expected:
        viommu.vdevice_alloc(mock_device, virt_id)
    assert known(viommu, 0x99)
    assert not known(viommu, 0x98)
    vdevice.destroy()
    viommu.destroy()


@rule("vdevice.device.twice.other_viommu")
def test_device_has_a_vdevice_of_another_viommu(
    expected: Expectation,
    viommu: Viommu,
    other_viommu: Viommu,
    mock_device: MockDevice,
    vdevice: IommufdObject,
) -> None:
    with expected:
        other_viommu.vdevice_alloc(mock_device)
    other_viommu.destroy()
    vdevice.destroy()
    viommu.destroy()


@rule("vdevice.device.again")
def test_device_may_have_a_vdevice_again(
    viommu: Viommu, other_viommu: Viommu, mock_device: MockDevice, vdevice: IommufdObject
) -> None:
    vdevice.destroy()
    viommu.vdevice_alloc(mock_device).destroy()
    other_viommu.vdevice_alloc(mock_device).destroy()


@rule("vdevice.device.other")
def test_device_that_the_viommu_was_not_made_for(
    viommu: Viommu, other_device: MockDevice, known: Callable[[Viommu, int], bool]
) -> None:
    viommu.vdevice_alloc(other_device, 0x55)
    assert known(viommu, 0x55)


@rule("vdevice.virt_id.taken")
def test_virt_id_is_taken(
    expected: Expectation,
    viommu: Viommu,
    vdevice: IommufdObject,
    other_device: MockDevice,
    known: Callable[[Viommu, int], bool],
) -> None:
    with expected:
        viommu.vdevice_alloc(other_device, 0x99)
    assert known(viommu, 0x99)
    viommu.vdevice_alloc(other_device, 0x9A).destroy()
    vdevice.destroy()
    viommu.destroy()


@rule("vdevice.virt_id.any")
def test_any_virt_id(viommu: Viommu, mock_device: MockDevice) -> None:
    for virt_id in [0, 1, 1 << 32, (1 << 64) - 1]:
        viommu.vdevice_alloc(mock_device, virt_id).destroy()


@rule("vdevice.virt_id.all_bits")
def test_virt_id_has_all_its_bits(
    viommu: Viommu, mock_device: MockDevice, other_device: MockDevice
) -> None:
    viommu.vdevice_alloc(mock_device, 5)
    viommu.vdevice_alloc(other_device, (1 << 32) + 5).destroy()


@rule("vdevice.virt_id.per_viommu")
def test_virt_id_is_the_viommus_own(
    viommu: Viommu,
    other_viommu: Viommu,
    vdevice: IommufdObject,
    other_device: MockDevice,
    known: Callable[[Viommu, int], bool],
) -> None:
    other = other_viommu.vdevice_alloc(other_device, 0x99)
    other.destroy()
    assert known(viommu, 0x99)
    assert not known(other_viommu, 0x99)
    vdevice.destroy()


@rule("vdevice.virt_id.again")
def test_virt_id_may_be_taken_again(
    viommu: Viommu,
    vdevice: IommufdObject,
    other_device: MockDevice,
    known: Callable[[Viommu, int], bool],
) -> None:
    vdevice.destroy()
    assert not known(viommu, 0x99)
    viommu.vdevice_alloc(other_device, 0x99)
    assert known(viommu, 0x99)


@rule("vdevice.undone.unwritable")
def test_id_cannot_be_told(
    expected: Expectation,
    unwritable: Callable[..., None],
    viommu: Viommu,
    mock_device: MockDevice,
    other_device: MockDevice,
) -> None:
    with expected:
        unwritable("IOMMU_VDEVICE_ALLOC", viommu_id=viommu, dev_id=mock_device, virt_id=0x99)
    other = viommu.vdevice_alloc(other_device, 0x99)
    viommu.vdevice_alloc(mock_device, 0x98).destroy()
    other.destroy()
    viommu.destroy()


@rule("vdevice.undone.device_may_go")
def test_device_of_a_failed_call_may_go(
    unwritable: Callable[..., None], viommu: Viommu, other_device: MockDevice
) -> None:
    with raises_errno(EFAULT):
        unwritable("IOMMU_VDEVICE_ALLOC", viommu_id=viommu, dev_id=other_device, virt_id=1)
    other_device.destroy()


@rule("vdevice.failure.lookup")
@pytest.mark.parametrize("nth", [1, 2], ids=["viommu", "device"])
def test_lookup_fails(
    expected: Expectation, viommu: Viommu, mock_device: MockDevice, nth: int
) -> None:
    with expected:
        viommu.vdevice_alloc(mock_device, fail_nth=nth)
    viommu.vdevice_alloc(mock_device).destroy()
    viommu.destroy()


@rule("vdevice.failure.memory")
def test_no_memory(
    expected: Expectation, viommu: Viommu, mock_device: MockDevice, other_ioas: Ioas
) -> None:
    with expected:
        viommu.vdevice_alloc(mock_device, fail_nth=3)
    viommu.vdevice_alloc(mock_device).destroy()
    viommu.destroy()
    other_ioas.destroy()
