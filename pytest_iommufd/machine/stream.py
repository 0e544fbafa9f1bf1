# SPDX-License-Identifier: GPL-2.0-only
"""Frames over a byte stream, with a deadline for each wait."""

from __future__ import annotations

import os
import select
import time

from pytest_iommufd.agent.protocol import HEADER, MAX_FRAME, Frame, FrameType


class DeadlinePassedError(Exception):
    """Nothing came in time."""


class StreamEndedError(Exception):
    """The other side closed the stream, sent what is no frame, or has exited."""


class Stream:
    """Sends and receives frames over a pair of pipes, or over a socket (twice the same).

    Args:
        reader: the descriptor to receive from; the stream closes it.
        writer: the descriptor to send to; the stream closes it.
        alive: a descriptor that becomes readable when the other side has exited (a pidfd).
    """

    def __init__(self, reader: int, writer: int, alive: int) -> None:
        for descriptor in (reader, writer):
            os.set_blocking(descriptor, False)
        self._reader = reader
        self._writer = writer
        self._alive = alive
        self._received = bytearray()
        self._poll = select.poll()
        self._poll.register(reader, select.POLLIN)
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
                data = data[os.write(self._writer, data) :]
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
            if self._reader in descriptors:
                self._read()
            elif self._alive in descriptors:
                raise StreamEndedError("the agent's machine has exited")

    def close(self) -> None:
        """Close the descriptors."""
        for descriptor in {self._reader, self._writer} - {-1}:
            os.close(descriptor)
        self._reader = self._writer = -1

    def _wait_writable(self, deadline: float) -> None:
        left = max(0.0, deadline - time.monotonic())
        # what the agent sends meanwhile is read, so that it never waits for us in turn
        readable, writable, _ = select.select([self._reader, self._alive], [self._writer], [], left)
        if self._reader in readable:
            self._read()
        elif self._alive in readable:
            raise StreamEndedError("the agent's machine has exited")
        elif not writable:
            raise DeadlinePassedError

    def _read(self) -> None:
        try:
            data = os.read(self._reader, 1 << 18)
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
