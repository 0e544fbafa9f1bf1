# SPDX-License-Identifier: GPL-2.0-only
"""Faults: how they are read, and where they go when their device does."""

from __future__ import annotations

import pytest

from pytest_iommufd import rule
from pytest_iommufd.iommufd.eventfile import READABLE, WRITABLE, EventFile

from .conftest import RECORD, answer

pytestmark = pytest.mark.no_fail_nth("a fault that there is no memory for is lost")


@rule("fault_queue.trigger.dev_id")
def test_trigger_on_what_is_no_device(expected, iommufd, request):
    for kind in ["nothing", "ioas", "nested_hwpt", "fault_queue"]:
        number = 9999 if kind == "nothing" else request.getfixturevalue(kind).id
        with expected:
            iommufd.test("trigger_iopf", trigger_iopf={"dev_id": number})


@rule("fault_queue.trigger.not_attached")
def test_fault_of_a_device_without_a_queue(fault, mock_device, iopf_hwpt, fault_file, request):
    for where in ["ioas", "parent_hwpt", "nested_hwpt"]:
        mock_device.replace(request.getfixturevalue(where))
        fault(mock_device)
        assert fault_file.poll() == WRITABLE
    iopf_hwpt.destroy()


@rule("fault_queue.record")
def test_fault_is_told(attached, fault, faults, uapi):
    fault(attached, grpid=0x66, perm=3, addr=0xDEAD_BEEF_B000)
    (got,) = faults()
    assert got.flags == uapi.IOMMU_PGFAULT_FLAGS_LAST_PAGE
    assert (got.dev_id, got.pasid, got.grpid) == (attached.id, 0, 0x66)
    assert (got.perm, got.addr) == (3, 0xDEAD_BEEF_B000)
    assert (got.length, got["__reserved"]) == (0, 0)


@rule("fault_queue.record.pasid")
def test_fault_of_a_pasid_is_told(attached, fault, faults, uapi):
    fault(attached, pasid=77)
    (got,) = faults()
    both = uapi.IOMMU_PGFAULT_FLAGS_LAST_PAGE | uapi.IOMMU_PGFAULT_FLAGS_PASID_VALID
    assert (got.flags, got.pasid) == (both, 77)


@rule("fault_queue.record.pasid.paging")
def test_fault_of_a_pasid_with_a_hwpt_of_an_ioas(
    iommufd, uapi, mock_device, ioas, fault_queue, fault, faults
):
    flags = uapi.IOMMU_HWPT_FAULT_ID_VALID
    made = iommufd.hwpt_alloc(mock_device, ioas, flags=flags, fault_id=fault_queue)
    mock_device.replace(made)
    fault(mock_device, pasid=77)
    assert faults() == []
    fault(mock_device, addr=5)
    assert [got.addr for got in faults()] == [5]


@rule("fault_queue.record.viommu")
def test_fault_with_a_hwpt_of_a_viommu(
    iommufd, uapi, mock_device, viommu, vdevice, hwpt_type, fault_queue, fault, faults
):
    flags = uapi.IOMMU_HWPT_FAULT_ID_VALID
    data = hwpt_type.valid()
    made = iommufd.hwpt_alloc(mock_device, viommu, data, flags=flags, fault_id=fault_queue)
    mock_device.replace(made)
    fault(mock_device)
    assert [got.dev_id for got in faults()] == [mock_device.id]
    vdevice.destroy()


@rule("fault_queue.record.device")
def test_faults_of_two_devices(attached, other_attached, fault, faults):
    fault(attached, addr=1)
    fault(other_attached, addr=2)
    found = [(got.dev_id, got.addr) for got in faults(2)]
    assert found == [(attached.id, 1), (other_attached.id, 2)]


@rule("fault_queue.record.queue")
def test_faults_go_to_their_own_queue(
    iommufd, attached, other_device, iopf_hwpts, fault, fault_file
):
    other = iommufd.fault_queue_alloc()
    other_device.replace(iopf_hwpts(other))
    fault(other_device)
    assert fault_file.poll() == WRITABLE
    assert EventFile(other).poll() == READABLE | WRITABLE
    assert attached.id != other_device.id


# ---- reading ----


@rule("fault_queue.poll.pending")
def test_poll_with_a_fault(attached, fault, fault_file):
    fault(attached)
    assert fault_file.poll() == READABLE | WRITABLE
    fault_file.read(RECORD)
    assert fault_file.poll() == WRITABLE


@rule("fault_queue.read.order")
def test_faults_are_read_in_order(attached, fault, faults):
    for addr in (7, 5, 6):
        fault(attached, addr=addr)
    assert [got.addr for got in faults(5)] == [7, 5, 6]


@rule("fault_queue.read.part")
def test_what_does_not_fit_stays(attached, fault, faults):
    for addr in range(5):
        fault(attached, addr=addr)
    assert [got.addr for got in faults(2)] == [0, 1]
    assert [got.addr for got in faults(1)] == [2]
    assert [got.addr for got in faults(9)] == [3, 4]


@rule("fault_queue.read.no_room")
def test_read_without_room(expected, attached, fault, fault_file, faults):
    fault(attached, addr=3)
    with expected:
        fault_file.read(0)
    assert [got.addr for got in faults()] == [3]


@rule("fault_queue.read.length_pending")
def test_read_of_another_length_with_a_fault(expected, attached, fault, fault_file):
    fault(attached)
    for length in [1, 39, 41]:
        with expected:
            fault_file.read(length)
        assert fault_file.poll() == READABLE | WRITABLE


@rule("fault_queue.read.unwritable")
def test_fault_that_cannot_be_written_stays(
    expected, attached, fault, fault_file, faults, unmapped
):
    fault(attached, addr=3)
    with expected:
        fault_file.read(RECORD, at=unmapped)
    assert fault_file.poll() == READABLE | WRITABLE
    assert [(got.addr, got.cookie) for got in faults()] == [(3, 1)]


@rule("fault_queue.read.unwritable_second")
def test_second_fault_that_cannot_be_written_stays(
    attached, fault, fault_file, faults, page_before_hole, page_size
):
    for addr in (1, 2, 3):
        fault(attached, addr=addr)
    end = page_before_hole.address + page_size
    assert len(fault_file.read(3 * RECORD, at=end - RECORD)) == RECORD
    assert [(got.addr, got.cookie) for got in faults(3)] == [(2, 2), (3, 3)]


# ---- answering ----


@rule("fault_queue.cookie")
def test_cookies_begin_at_one(attached, fault, faults):
    for _ in range(3):
        fault(attached)
    assert [got.cookie for got in faults(3)] == [1, 2, 3]


@rule("fault_queue.cookie.reused")
def test_cookie_is_given_again(attached, fault, fault_file, faults):
    for _ in range(3):
        fault(attached)
    faults(3)
    fault_file.write(answer(2))
    fault(attached)
    assert [got.cookie for got in faults()] == [2]


@rule("fault_queue.answer")
@pytest.mark.parametrize("code", [0, 1], ids=["success", "invalid"])
def test_answer(attached, fault, fault_file, faults, code):
    fault(attached)
    faults()
    assert fault_file.write(answer(1, code=code)) == 8


@rule("fault_queue.answer.several")
def test_several_answers_in_any_order(attached, fault, fault_file, faults):
    for _ in range(3):
        fault(attached)
    faults(3)
    assert fault_file.write(answer(3, 1, 2)) == 24


@rule("fault_queue.answer.twice")
def test_second_answer(expected, attached, fault, fault_file, faults):
    fault(attached)
    faults()
    fault_file.write(answer(1))
    with expected:
        fault_file.write(answer(1))


@rule("fault_queue.answer.not_read")
def test_answer_to_what_was_not_read(expected, attached, fault, fault_file):
    fault(attached)
    with expected:
        fault_file.write(answer(1))
    assert fault_file.poll() == READABLE | WRITABLE


@rule("fault_queue.answer.code")
def test_answer_with_another_code(expected, attached, fault, fault_file, faults):
    fault(attached)
    faults()
    for code in [2, 3, 0xFFFF_FFFF]:
        with expected:
            fault_file.write(answer(1, code=code))
    assert fault_file.write(answer(1)) == 8


@rule("fault_queue.answer.partly")
@pytest.mark.parametrize("bad", [answer(99), answer(1), answer(2, code=2)], ids=str)
def test_answers_before_a_bad_one_are_taken(attached, fault, fault_file, faults, bad):
    for _ in range(2):
        fault(attached)
    faults(2)
    assert fault_file.write(answer(1) + bad + answer(2)) == 8
    assert fault_file.write(answer(2)) == 8


@rule("fault_queue.answer.unreadable_second")
def test_answers_before_what_cannot_be_read_are_taken(
    attached, fault, fault_file, faults, page_before_hole, page_size
):
    fault(attached)
    faults()
    at = page_before_hole.write(answer(1), page_size - 8)
    assert fault_file.write(b"", 16, at=at) == 8


@rule("fault_queue.answer.other_queue")
def test_cookie_of_another_queue(expected, iommufd, attached, fault, faults):
    other = iommufd.fault_queue_alloc()
    fault(attached)
    faults()
    with expected:
        EventFile(other).write(answer(1))


# ---- when the device goes ----


@rule("fault_queue.gone.pending")
def test_pending_faults_of_a_device_that_goes_elsewhere(attached, ioas, fault, fault_file, faults):
    fault(attached)
    attached.replace(ioas)
    assert fault_file.poll() == WRITABLE
    assert faults() == []


@rule("fault_queue.gone.read")
def test_read_faults_of_a_device_that_goes_elsewhere(
    expected, attached, ioas, fault, fault_file, faults
):
    fault(attached)
    faults()
    attached.replace(ioas)
    with expected:
        fault_file.write(answer(1))


@rule("fault_queue.gone.same_queue")
def test_faults_of_a_device_that_goes_to_a_hwpt_with_the_same_queue(
    attached, iopf_hwpts, fault_queue, fault, fault_file, refused
):
    fault(attached)
    fault_file.read(RECORD)
    fault(attached)
    attached.replace(iopf_hwpts(fault_queue))
    assert fault_file.poll() == WRITABLE
    assert refused(1)


@rule("fault_queue.gone.other_device")
def test_faults_of_a_device_that_stays(attached, other_attached, ioas, fault, fault_file, faults):
    fault(other_attached, addr=1)
    fault(attached, addr=2)
    assert len(faults(2)) == 2
    fault(other_attached, addr=3)
    attached.replace(ioas)
    assert fault_file.write(answer(1)) == 8
    assert [got.addr for got in faults()] == [3]


@rule("fault_queue.gone.destroyed")
def test_faults_of_a_destroyed_device(attached, other_attached, fault, fault_file, refused):
    fault(other_attached)
    fault_file.read(RECORD)
    fault(other_attached)
    other_attached.destroy()
    assert fault_file.poll() == WRITABLE
    assert refused(1)
    fault(attached)
    assert fault_file.poll() == READABLE | WRITABLE


@rule("fault_queue.gone.back_again")
def test_faults_of_a_device_that_comes_back(attached, ioas, iopf_hwpt, fault, faults):
    fault(attached, addr=1)
    attached.replace(ioas)
    fault(attached, addr=2)
    attached.replace(iopf_hwpt)
    fault(attached, addr=3)
    assert [got.addr for got in faults(3)] == [3]


@rule("fault_queue.gone.busy")
def test_attached_hwpt_is_held(expected, attached, ioas, iopf_hwpt):
    with expected:
        iopf_hwpt.destroy()
    attached.replace(ioas)
    iopf_hwpt.destroy()


@rule("fault_queue.gone.closed")
def test_faults_after_the_file_is_closed(attached, ioas, iopf_hwpt, fault_queue, fault):
    fault(attached)
    fault_queue.close()
    fault(attached)
    attached.replace(ioas)
    iopf_hwpt.destroy()
    fault_queue.destroy()


@rule("fault_queue.gone.all_closed")
def test_faults_that_nobody_answers(iommufd, attached, fault_queue, fault, fault_file):
    fault(attached)
    fault_file.read(RECORD)
    fault(attached)
    fault_queue.close()
    iommufd.close()


@rule("fault_queue.gone.context")
def test_faults_after_the_context_is_closed(iommufd, attached, fault, fault_file, faults):
    fault(attached, addr=9)
    iommufd.close()
    assert [got.addr for got in faults()] == [9]
    assert fault_file.write(answer(1)) == 8
