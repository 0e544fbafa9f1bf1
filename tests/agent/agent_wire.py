# SPDX-License-Identifier: GPL-2.0-only
"""The agent as a child that is spoken to byte by byte, and models of what it must answer."""

from __future__ import annotations

import os
import struct
import subprocess
import tempfile
import time
from typing import TYPE_CHECKING, Self

from pytest_iommufd.agent.protocol import HEADER, MAX_FRAME, Frame, FrameType, Hello
from pytest_iommufd.machine.stream import Stream

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

ANSWER_SECONDS = 20.0
MAX_OPS = 65536
MAX_REPEAT = 1_000_000
MAX_THREADS = 64
SYSCALL, WRITE, READ, COPY = 1, 2, 3, 4
MUST = 1


class Wire:
    """An agent with its stream on its standard in- and output.

    On exit the stream is closed and the agent must end by itself without a sanitizer's word.
    """

    def __init__(self, program: Path) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this
        request, to_agent = os.pipe()
        from_agent, answer = os.pipe()
        self._popen = subprocess.Popen(
            [program, "--stdio"],
            stdin=request,
            stdout=answer,
            stderr=self._errors,
            env={
                **os.environ,
                "ASAN_OPTIONS": "detect_leaks=0",
                "UBSAN_OPTIONS": "print_stacktrace=1",
            },
        )
        os.close(request)
        os.close(answer)
        self._writer = to_agent
        self._alive = os.pidfd_open(self._popen.pid)
        self._stream = Stream(from_agent, to_agent, self._alive)
        self._sequence = 0
        self.hello = Hello.parse(self.receive().payload)

    def send_raw(self, data: bytes) -> None:
        """Send bytes, frame or not."""
        os.write(self._writer, data)

    def send(
        self, kind: int, worker: int = 1, payload: bytes = b"", sequence: int | None = None
    ) -> int:
        """Send a request of any type; returns its sequence number."""
        if sequence is None:
            self._sequence += 1
            sequence = self._sequence
        frame = HEADER.pack(len(payload), kind, worker, sequence) + payload
        view = memoryview(frame)
        end = time.monotonic() + ANSWER_SECONDS
        while view:
            assert time.monotonic() < end, "the agent does not read"
            try:
                view = view[os.write(self._writer, view) :]
            except BlockingIOError:
                time.sleep(0.001)
        return sequence

    def receive(self) -> Frame:
        """Return the next frame that is not of the kernel log."""
        while True:
            frame = self._stream.receive(time.monotonic() + ANSWER_SECONDS)
            if frame.type is not FrameType.KMSG:
                return frame

    def ask(
        self, kind: int, worker: int = 1, payload: bytes = b"", sequence: int | None = None
    ) -> Frame:
        """Send a request and return its answer, which must have its sequence number."""
        sent = self.send(kind, worker, payload, sequence)
        answer = self.receive()
        assert answer.sequence == sent
        return answer

    def refused(
        self, kind: int, worker: int = 1, payload: bytes = b"", sequence: int | None = None
    ) -> str:
        """Send a request that must be refused, and return the agent's sentence."""
        answer = self.ask(kind, worker, payload, sequence)
        assert answer.type is FrameType.ERROR, answer
        return answer.payload.decode()

    def spawn(self, worker: int = 1) -> tuple[int, int]:
        """Start a worker; returns its pid and the address of its arena."""
        answer = self.ask(FrameType.SPAWN, worker)
        assert answer.type is FrameType.SPAWNED
        pid, _, arena = struct.unpack("<IIQ", answer.payload)
        return pid, arena

    def finish(self) -> int:
        """Close the stream; returns the agent's exit status."""
        self._stream.close()
        try:
            status = self._popen.wait(ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
            raise
        finally:
            os.close(self._alive)
        self._errors.seek(0)
        text = self._errors.read().decode(errors="replace")
        assert "Sanitizer" not in text, text
        assert "runtime error" not in text, text
        return status

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._popen.returncode is None:
            status = self.finish()
            if error is None:
                assert status == 0


# ---- programs by hand ----


def program(*ops: bytes, count: int | None = None) -> bytes:
    """Join ops into a program."""
    return struct.pack("<II", len(ops) if count is None else count, 0) + b"".join(ops)


def op(
    kind: int,
    *args: tuple[int, int, int] | int,
    aux: int = 0,
    flags: int = 0,
    repeat: int = 1,
    fail_nth: int = 0,
    argc: int | None = None,
    blob: bytes = b"",
) -> bytes:
    """Make an op; an argument is a number, or the kind, op and value of a struct arg."""
    head = struct.pack(
        "<BBHIII", kind, len(args) if argc is None else argc, flags, aux, repeat, fail_nth
    )
    packed = [
        struct.pack("<IIQ", *(arg if isinstance(arg, tuple) else (0, 0, arg))) for arg in args
    ]
    return head + b"".join(packed) + blob + bytes(-len(blob) % 8)


# An op that fails and stops the program: what follows is checked, and never run.
STOP = op(READ, 0, aux=8, flags=MUST)


def verdict_on_program(text: bytes) -> str:  # noqa: C901, PLR0911, PLR0912 - a list of checks
    """Say what the agent must answer to a program that runs nothing, "" when it is accepted."""
    if len(text) < 8:
        return "a program without a length"
    (count,) = struct.unpack_from("<I", text)
    if count > MAX_OPS:
        return "a program of too many ops"
    at = 8
    for index in range(count):
        if len(text) - at < 16:
            return "a program that ends inside an op"
        kind, argc, flags, aux, repeat, _ = struct.unpack_from("<BBHIII", text, at)
        at += 16
        if not SYSCALL <= kind <= COPY:
            return "an op of no known kind"
        if argc > 6 if kind == SYSCALL else argc != {WRITE: 1, READ: 1, COPY: 2}[kind]:
            return "an op with the wrong number of arguments"
        if kind != SYSCALL and aux > MAX_FRAME:
            return "an op over too many bytes"
        if not 1 <= repeat <= MAX_REPEAT:
            return "an op repeated zero or too many times"
        if flags & ~MUST:
            return "an op with an unknown flag"
        for _ in range(argc):
            if len(text) - at < 16:
                return "a program that ends inside an argument"
            arg_kind, of, _ = struct.unpack_from("<IIQ", text, at)
            at += 16
            if arg_kind == 1 and of >= index:
                return "an argument that refers to a later op"
            if arg_kind > 1:
                return "an argument of no known kind"
        if kind == WRITE:
            at += aux + -aux % 8
            if at > len(text):
                return "a program that ends inside the bytes to write"
    return "a program with bytes after its last op" if at < len(text) else ""


def verdict_on_parallel(text: bytes) -> str:
    """Say what the agent must answer to a parallel run of programs that run nothing."""
    count = int.from_bytes(text[:4], "little") if len(text) >= 4 else 0
    if not 1 <= count <= MAX_THREADS:
        return "a parallel run of no or too many programs"
    at = 4
    parts = []
    for _ in range(count):
        if len(text) - at < 4:
            return "a parallel run that ends inside a length"
        (length,) = struct.unpack_from("<I", text, at)
        at += 4
        parts.append(text[at : at + length])
        at += length
        if at > len(text):
            return "a parallel run that ends inside a program"
    if at < len(text):
        return "a parallel run with bytes after its last program"
    return next((wrong for part in parts if (wrong := verdict_on_program(part))), "")
