# SPDX-License-Identifier: GPL-2.0-only
"""Frames over a byte stream, with a deadline for each wait."""

from __future__ import annotations

import contextlib
import select
import socket
import time

from pytest_iommufd.agent.protocol import HEADER, MAX_FRAME, Frame, FrameType


class DeadlinePassedError(Exception):
    """Nothing came in time."""


class StreamEndedError(Exception):
    """The other side closed the stream, sent what is no frame, or has exited."""


class Stream:
    """Sends and receives frames on a connected socket.

    Args:
        connection: a stream socket.
        alive: a file descriptor that becomes readable when the other side has exited (a pidfd).
    """

    def __init__(self, connection: socket.socket, alive: int) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._received = bytearray()
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)
        self._alive = alive
        self._poll.register(alive, select.POLLIN)

    def send(self, frame: Frame, deadline: float) -> None:
        """Send one frame whole.

        Args:
            frame: what to send.
            deadline: a time.monotonic() value, seconds.

        Raises:
            StreamEndedError, DeadlinePassedError
        """
        data = memoryview(bytes(frame))
        while data:
            try:
                data = data[self._socket.send(data) :]
            except BlockingIOError:
                self._wait_writable(deadline)
            except OSError as error:
                raise StreamEndedError(f"cannot send to the agent: {error.strerror}") from error

    def receive(self, deadline: float) -> Frame:
        """Return the next frame; the arguments and errors are those of send()."""
        while True:
            frame = self._take()
            if frame:
                return frame
            ready = self._poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
            if not ready:
                raise DeadlinePassedError
            descriptors = [descriptor for descriptor, _ in ready]
            if self._socket.fileno() in descriptors:
                self._read()
            elif self._alive in descriptors:
                raise StreamEndedError("the agent's machine has exited")

    def close(self) -> None:
        """Close the socket."""
        with contextlib.suppress(OSError):
            self._socket.close()

    def _wait_writable(self, deadline: float) -> None:
        left = max(0.0, deadline - time.monotonic())
        # what the agent sends meanwhile is read, so that it never waits for us in turn
        readable, writable, _ = select.select([self._socket, self._alive], [self._socket], [], left)
        if self._socket in readable:
            self._read()
        elif self._alive in readable:
            raise StreamEndedError("the agent's machine has exited")
        elif not writable:
            raise DeadlinePassedError

    def _read(self) -> None:
        try:
            data = self._socket.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError as error:
            raise StreamEndedError(f"cannot read from the agent: {error.strerror}") from error
        if not data:
            raise StreamEndedError("the agent closed its stream")
        self._received += data

    def _take(self) -> Frame | None:
        if len(self._received) < HEADER.size:
            return None
        size, kind, worker, sequence = HEADER.unpack_from(self._received)
        if size > MAX_FRAME + (MAX_FRAME >> 1):
            raise StreamEndedError(f"the agent sent what is no frame ({size} bytes long)")
        end = HEADER.size + size
        if len(self._received) < end:
            return None
        payload = bytes(self._received[HEADER.size : end])
        del self._received[:end]
        try:
            return Frame(FrameType(kind), worker, sequence, payload)
        except ValueError:
            raise StreamEndedError(f"the agent sent a frame of unknown type {kind}") from None
