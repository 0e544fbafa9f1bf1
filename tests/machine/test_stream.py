# SPDX-License-Identifier: GPL-2.0-only
"""Frames over pipes and sockets, and how their streams end."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest

from pytest_iommufd.agent.protocol import HEADER, MAX_FRAME, Frame, FrameType
from pytest_iommufd.machine.stream import DeadlinePassedError, Stream, StreamEndedError

if TYPE_CHECKING:
    from collections.abc import Iterator

FRAME = Frame(FrameType.RESULT, 3, 4, b"payload")


class Ends(NamedTuple):
    """A stream, and the other ends of it: what it reads, what it wrote, and its life."""

    stream: Stream
    to: int
    back: int
    peer: subprocess.Popen[bytes]


@pytest.fixture
def ends() -> Iterator[Ends]:
    peer = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    alive = os.pidfd_open(peer.pid)
    reader, to = os.pipe()
    back, writer = os.pipe()
    made = Ends(Stream(reader, writer, alive), to, back, peer)
    yield made
    made.stream.close()
    os.close(alive)
    peer.kill()
    peer.communicate()
    for descriptor in (to, back):
        try:
            os.close(descriptor)
        except OSError:
            continue  # the test has closed it


def soon(seconds: float = 0.2) -> float:
    return time.monotonic() + seconds


def test_a_frame_comes_as_it_was_sent(ends: Ends) -> None:
    os.write(ends.to, bytes(FRAME) * 2)
    assert ends.stream.receive(soon()) == FRAME
    assert ends.stream.receive(soon()) == FRAME
    ends.stream.send(FRAME, soon())
    assert os.read(ends.back, 100) == bytes(FRAME)


def test_a_frame_comes_whole_though_its_bytes_come_one_by_one(ends: Ends) -> None:
    def drip() -> None:
        for byte in bytes(FRAME):
            os.write(ends.to, bytes([byte]))
            time.sleep(0.001)

    thread = threading.Thread(target=drip)
    thread.start()
    assert ends.stream.receive(soon(5)) == FRAME
    thread.join()


def test_nothing_in_time_is_told_in_time(ends: Ends) -> None:
    os.write(ends.to, bytes(FRAME)[:-1])
    began = time.monotonic()
    with pytest.raises(DeadlinePassedError):
        ends.stream.receive(soon(0.1))
    assert 0.05 < time.monotonic() - began < 2
    os.write(ends.to, bytes(FRAME)[-1:])
    assert ends.stream.receive(soon()) == FRAME


def test_nobody_who_reads_is_told_in_time(ends: Ends) -> None:
    with pytest.raises(DeadlinePassedError):
        ends.stream.send(Frame(FrameType.RUN, payload=bytes(1 << 20)), soon(0.1))


def test_what_comes_while_we_send_is_read(ends: Ends) -> None:
    """Else both sides would wait for each other, their buffers full."""
    large = Frame(FrameType.RESULT, payload=bytes(1 << 20))

    def other_side() -> None:
        left = memoryview(bytes(large))
        while left:
            left = left[os.write(ends.to, left) :]
        total = 0
        while total < len(bytes(large)):
            total += len(os.read(ends.back, 1 << 16))

    thread = threading.Thread(target=other_side)
    thread.start()
    ends.stream.send(large, soon(10))
    assert ends.stream.receive(soon(10)) == large
    thread.join()


def test_a_closed_stream_is_told(ends: Ends) -> None:
    os.write(ends.to, bytes(FRAME))
    os.close(ends.to)
    assert ends.stream.receive(soon()) == FRAME
    with pytest.raises(StreamEndedError, match="the agent closed its stream"):
        ends.stream.receive(soon())


def test_a_stream_that_nobody_reads_any_more_is_told(ends: Ends) -> None:
    os.close(ends.back)
    with pytest.raises(StreamEndedError, match="cannot send to the agent: Broken pipe"):
        ends.stream.send(FRAME, soon())


def test_the_end_of_the_other_side_is_told_after_what_it_said(ends: Ends) -> None:
    os.write(ends.to, bytes(FRAME))
    ends.peer.kill()
    assert ends.stream.receive(soon()) == FRAME
    with pytest.raises(StreamEndedError, match="the agent's machine has exited"):
        ends.stream.receive(soon(5))


def test_what_is_no_frame_ends_the_stream(ends: Ends) -> None:
    os.write(ends.to, HEADER.pack(MAX_FRAME * 2, FrameType.RESULT, 0, 0))
    with pytest.raises(StreamEndedError, match="sent what is no frame"):
        ends.stream.receive(soon())


def test_a_frame_of_no_known_type_ends_the_stream(ends: Ends) -> None:
    os.write(ends.to, HEADER.pack(0, 999, 0, 0))
    with pytest.raises(StreamEndedError, match="a frame of unknown type 999"):
        ends.stream.receive(soon())


def test_a_socket_serves_as_both_ends(ends: Ends) -> None:
    ours, theirs = socket.socketpair()
    descriptor = ours.detach()
    stream = Stream(descriptor, descriptor, os.dup(ends.stream._alive))
    with theirs:
        theirs.sendall(bytes(FRAME))
        assert stream.receive(soon()) == FRAME
        stream.send(FRAME, soon())
        assert theirs.recv(100) == bytes(FRAME)
        stream.close()
        assert theirs.recv(1) == b""
    stream.close()
    os.close(stream._alive)
