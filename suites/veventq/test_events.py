# SPDX-License-Identifier: GPL-2.0-only
"""Events: how they are read, and what is told of lost ones."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import rule
from pytest_iommufd.agent.protocol import Program
from pytest_iommufd.given import pack
from pytest_iommufd.iommufd.eventfile import READABLE, EventFile
from pytest_iommufd.iommufd.request import Request

from .conftest import EVENT, HEADER, OTHER_DRIVERS, Event, lost

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.iommufd import (
        Context,
        MockDevice,
    )
    from pytest_iommufd.uapi import Uapi

THREADS = 4


def trigger(iommufd: Context, device: object) -> None:
    iommufd.test("trigger_vevent", trigger_vevent={"dev_id": getattr(device, "id", 9999)})


@rule("veventq.trigger.dev_id")
def test_trigger_on_what_is_no_device(expected, iommufd, request):
    for kind in ["nothing", "ioas", "viommu", "vdevice"]:
        wrong = None if kind == "nothing" else request.getfixturevalue(kind)
        with expected:
            trigger(iommufd, wrong)


@rule("veventq.trigger.not_attached")
def test_event_of_a_device_that_is_not_on_the_viommu(
    expected, iommufd, attached, event_file, request
):
    for where in ["ioas", "parent_hwpt", "nested_hwpt"]:
        attached.replace(request.getfixturevalue(where))
        with expected:
            trigger(iommufd, attached)
        assert event_file.poll() == 0


@rule("veventq.trigger.virt_id_zero")
def test_event_of_the_virt_id_zero(expected, iommufd, viommu, mock_device, viommu_hwpt, event_file):
    viommu.vdevice_alloc(mock_device, 0)
    mock_device.replace(viommu_hwpt)
    with expected:
        trigger(iommufd, mock_device)
    assert event_file.poll() == 0


@rule("veventq.trigger.no_queue")
def test_event_without_a_queue(expected, iommufd, attached):
    with expected:
        trigger(iommufd, attached)


@rule("veventq.trigger.no_queue.other_type")
def test_event_with_a_queue_of_another_type(expected, iommufd, attached, viommu):
    queue = viommu.veventq_alloc(type=OTHER_DRIVERS[0])
    with expected:
        trigger(iommufd, attached)
    assert EventFile(queue).poll() == 0


@rule("veventq.trigger.no_queue.destroyed")
def test_event_with_a_queue_that_was_destroyed(expected, iommufd, attached, veventq):
    veventq.close()
    veventq.destroy()
    with expected:
        trigger(iommufd, attached)


@rule("veventq.event")
def test_event_is_told(happen, events):
    happen()
    assert events() == [Event(0, 0x99)]


@rule("veventq.event.sequence")
def test_events_are_counted(happen, events):
    happen(2)
    assert events() == [Event(0), Event(1)]
    happen()
    assert events() == [Event(2)]


@rule("veventq.event.type")
def test_event_goes_to_the_queue_of_its_type(happen, event_file, viommu):
    other = EventFile(viommu.veventq_alloc(type=OTHER_DRIVERS[0]))
    happen()
    assert (event_file.poll(), other.poll()) == (READABLE, 0)


@rule("veventq.event.viommu")
def test_event_goes_to_its_viommu(iommufd, mock_device, other_parent, event_file, happen):
    other = EventFile(iommufd.viommu_alloc(mock_device, other_parent).veventq_alloc())
    happen()
    assert (event_file.poll(), other.poll()) == (READABLE, 0)


@rule("veventq.event.device")
def test_events_of_two_devices(viommu, viommu_hwpt, other_device, happen, events):
    viommu.vdevice_alloc(other_device, 0x55)
    other_device.replace(viommu_hwpt)
    happen(1, other_device)
    happen()
    assert events() == [Event(0, 0x55), Event(1, 0x99)]


@rule("veventq.event.stays")
def test_event_outlives_the_attachment(attached, ioas, vdevice, happen, events):
    happen()
    attached.replace(ioas)
    vdevice.destroy()
    assert events() == [Event(0, 0x99)]


@rule("veventq.event.back_again")
@pytest.mark.parametrize("away", ["ioas", "nested_hwpt"])
def test_event_of_a_device_that_has_come_back(attached, viommu_hwpt, happen, events, away, request):
    for pt in (request.getfixturevalue(away), viommu_hwpt):
        attached.replace(pt)
    happen()
    assert events() == [Event(0, 0x99)]


# ---- reading ----


@rule("veventq.poll.pending")
def test_poll_with_an_event(happen, event_file):
    happen()
    assert event_file.poll() == READABLE
    event_file.read(EVENT)
    assert event_file.poll() == 0


@rule("veventq.read.part")
@pytest.mark.parametrize("size", [EVENT, EVENT + HEADER - 1, EVENT + HEADER, 2 * EVENT - 1])
def test_what_does_not_fit_stays(happen, events, size):
    happen(2)
    assert events(size) == [Event(0)]
    assert events() == [Event(1)]


@rule("veventq.read.part_in_order")
def test_what_does_not_fit_stays_before_the_rest(viommu, iommufd, attached):
    file = EventFile(viommu.veventq_alloc(3))
    for _ in range(3):
        trigger(iommufd, attached)
    data = b"".join(file.read(size) for size in (EVENT, 3 * EVENT))
    assert [record[1] for record in struct.iter_unpack("<III", data)] == [0, 1, 2]


@rule("veventq.read.fits")
def test_two_events_that_just_fit(happen, events):
    happen(2)
    assert events(2 * EVENT) == [Event(0), Event(1)]


@rule("veventq.read.too_short")
def test_read_too_short_for_the_event(expected, happen, event_file, events):
    happen()
    for size in [0, 7, 8, 11]:
        with expected:
            event_file.read(size)
    assert events() == [Event(0)]


@rule("veventq.read.unwritable")
def test_event_that_cannot_be_written_stays(
    expected, happen, event_file, events, page_before_hole, page_size
):
    happen()
    for room in [0, 4, 8, 11]:
        with expected:
            event_file.read(EVENT, at=page_before_hole.address + page_size - room)
        assert event_file.poll() == READABLE
    assert events() == [Event(0)]


@rule("veventq.read.unwritable_second")
@pytest.mark.parametrize("room", [0, 8])
def test_second_event_that_cannot_be_written_stays(
    happen, event_file, events, page_before_hole, page_size, room
):
    happen(2)
    at = page_before_hole.address + page_size - EVENT - room
    assert len(event_file.read(2 * EVENT, at=at)) == EVENT
    assert events() == [Event(1)]


@rule("veventq.read.unwritable_counts")
def test_event_that_could_not_be_read_still_counts(
    happen, event_file, events, page_before_hole, page_size
):
    happen(2)
    at = page_before_hole.address + page_size - EVENT
    assert len(event_file.read(2 * EVENT, at=at)) == EVENT
    happen(2)
    assert events() == [Event(1), Event(2), lost(3)]


# ---- lost events ----


@rule("veventq.lost")
def test_lost_event_is_told(happen, events):
    happen(3)
    assert events() == [Event(0), Event(1), lost(2)]
    assert events() == []


@rule("veventq.lost.several")
def test_several_lost_events_are_told_at_once(happen, events):
    happen(5)
    assert events() == [Event(0), Event(1), lost(4)]


@rule("veventq.lost.afterwards")
def test_events_after_lost_ones(happen, events):
    happen(3)
    events()
    happen(3)
    assert events() == [Event(3), Event(4), lost(5)]


@rule("veventq.lost.by_sequence")
def test_event_takes_the_place_of_the_header(happen, events):
    happen(3)
    assert events(EVENT) == [Event(0)]
    happen()
    assert events() == [Event(1), Event(3)]


@rule("veventq.lost.by_sequence_and_header")
def test_events_are_lost_again(happen, events):
    happen(3)
    assert events(EVENT) == [Event(0)]
    happen(2)
    assert events() == [Event(1), Event(3), lost(4)]


@rule("veventq.lost.header_alone")
def test_header_is_read_alone(happen, event_file, events):
    happen(3)
    events(2 * EVENT)
    assert event_file.poll() == READABLE
    assert events(HEADER) == [lost(2)]
    assert event_file.poll() == 0


@rule("veventq.lost.header_does_not_fit")
@pytest.mark.parametrize("more", [0, 1, 7])
def test_header_that_does_not_fit_stays(happen, events, more):
    happen(3)
    assert events(2 * EVENT + more) == [Event(0), Event(1)]
    assert events() == [lost(2)]


@rule("veventq.lost.event_after_the_header")
def test_event_takes_the_place_of_a_header_alone(happen, events):
    happen(3)
    events(2 * EVENT)
    happen()
    assert events() == [Event(3)]


@rule("veventq.lost.unwritable")
def test_header_that_cannot_be_written_stays(expected, happen, event_file, events, unmapped):
    happen(3)
    events(2 * EVENT)
    with expected:
        event_file.read(HEADER, at=unmapped)
    assert events() == [lost(2)]


@rule("veventq.lost.depth")
@pytest.mark.parametrize("depth", [1, 3, 20])
def test_queue_has_its_depth(viommu, iommufd, attached, depth):
    file = EventFile(viommu.veventq_alloc(depth))
    for _ in range(depth):
        trigger(iommufd, attached)
    assert len(file.read(4096)) == depth * EVENT
    for _ in range(depth + 1):
        trigger(iommufd, attached)
    assert len(file.read(4096)) == depth * EVENT + HEADER


@rule("veventq.lost.no_memory")
def test_event_without_memory_is_lost(expected, iommufd, happen, events):
    with expected, iommufd.sending(fail_nth=2):
        happen()
    assert events() == [lost(0)]
    happen()
    assert events() == [Event(1)]


@rule("veventq.lost.no_memory_to_read")
def test_header_without_memory_stays(expected, happen, event_file, events):
    happen(3)
    events(2 * EVENT)
    with expected:
        event_file.read(HEADER, fail_nth=1)
    assert events() == [lost(2)]


# ---- with events pending ----


@rule("veventq.pending.destroyed")
@pytest.mark.parametrize("number", [1, 3])
def test_queue_with_events_is_destroyed(viommu, veventq, happen, number):
    happen(number)
    veventq.close()
    veventq.destroy()
    assert EventFile(viommu.veventq_alloc()).read(EVENT) == b""


@rule("veventq.pending.closed")
def test_events_after_the_file_is_closed(veventq, happen):
    veventq.close()
    happen(4)
    veventq.destroy()


@rule("veventq.pending.context")
def test_events_after_the_context_is_closed(iommufd, event_file, happen, events):
    assert event_file.fd >= 0
    happen(3)
    iommufd.close()
    assert events() == [Event(0), Event(1), lost(2)]


# ---- several threads ----


@pytest.fixture
def programs(iommufd: Context, uapi: Uapi, attached: MockDevice) -> Callable[..., list[Program]]:
    """Makes programs that each have the device tell of so many events."""

    def make(number: int, each: int) -> list[Program]:
        fields = {"dev_id": attached}
        command = {"op": uapi.IOMMU_TEST_OP_TRIGGER_VEVENT, "trigger_vevent": fields}
        made = [Program() for _ in range(number)]
        for program in made:
            for _ in range(each):
                iommufd.add(program, Request("IOMMU_TEST_CMD", command), must=True)
        return made

    return make


@rule("veventq.threads.trigger")
@pytest.mark.no_fail_nth("threads make the calls, not the test itself")
def test_threads_tell_of_events(iommufd, viommu, programs):
    file = EventFile(viommu.veventq_alloc(THREADS * 8))
    iommufd.process.run_parallel(programs(THREADS, 8))
    data = file.read(THREADS * 8 * EVENT + HEADER)
    found = [record[1] for record in struct.iter_unpack("<III", data)]
    assert found == list(range(THREADS * 8))


@rule("veventq.threads.read")
@pytest.mark.no_fail_nth("threads make the calls, not the test itself")
def test_threads_read_while_events_come(iommufd, viommu, programs):
    file = EventFile(viommu.veventq_alloc(THREADS * 8))
    reader = Program()
    reads = []
    for _ in range(THREADS * 8):
        at = iommufd.put(bytes(EVENT))
        reads.append((reader.syscall("read", file.fd, at, EVENT), reader.read(at, EVENT)))
    results = iommufd.process.run_parallel([*programs(2, 8), reader])[-1]
    data = b"".join(results[got.index].data[: results[call.index].ret] for call, got in reads)
    data += file.read(1024)
    assert [record[1] for record in struct.iter_unpack("<III", data)] == list(range(16))


@rule("veventq.threads.poll")
@pytest.mark.no_fail_nth("threads make the calls, not the test itself")
def test_thread_that_polls_is_woken(iommufd, event_file, programs):
    waiter = Program()
    buffer = iommufd.put(pack("<iHHqq", event_file.fd, READABLE, 0, 5, 0))
    call = waiter.syscall("ppoll", buffer, 1, buffer + 8, 0, 0)
    woken = iommufd.process.run_parallel([waiter, *programs(1, 1)])[0]
    assert woken[call.index].ret == 1
    assert woken[call.index].ns < 4_000_000_000
