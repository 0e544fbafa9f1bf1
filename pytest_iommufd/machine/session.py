# SPDX-License-Identifier: GPL-2.0-only
"""Requests to the agent and its answers, from its greeting until its machine ends."""

from __future__ import annotations

import contextlib
import itertools
import re
import time
from typing import TYPE_CHECKING, Any, Protocol

from pytest_iommufd.agent.protocol import MAX_FRAME, MAX_WORKERS, Frame, FrameType, parse_status
from pytest_iommufd.machine.stream import DeadlinePassedError, Stream, StreamEndedError
from pytest_iommufd.machine.verdict import ProcessDied, StreamLost, Verdict, describe_status

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_iommufd.agent.protocol import Hello, Program, Result

# How /dev/kmsg shows bytes that are not printable ASCII, such as a newline in a message.
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")


class Observer(Protocol):
    """Sees all that the processes of a machine do, for who wants to do it again."""

    def runs(self, process: Any, programs: Sequence[Program]) -> list[list[Result]]:
        """Note programs that start now, and return the list that takes their results."""

    def forks(self, process: Any, child: Any) -> None:
        """Note a fork."""

    def ends(self, process: Any) -> None:
        """Note that a process is killed."""


class Owner(Protocol):
    """Who runs the machine that the agent is in.

    Attributes:
        log: takes the lines of the kernel's log.
        call_seconds: how long each round trip may take, unless told otherwise.
        observers: see all that its processes do.
    """

    log: list[str]
    call_seconds: float
    observers: list[Observer]

    def lost(self, what: str, during: object) -> Verdict:
        """Say why the agent's stream ended, and clear up."""

    def hung(self, session: Session, request: Frame, seconds: float, during: object) -> Verdict:
        """Find out why a request is not answered, get rid of what hangs, and say so."""

    def stop(self) -> None:
        """End the machine."""


class Worker(Protocol):
    """A process of the agent."""

    pid: int

    def end(self) -> object:
        """Kill it."""

    def note_death(self, status: int | None) -> None:
        """Remember that it ended by itself."""


class Session:
    """One run of the agent.

    Args:
        stream: to the agent; closed with the session.
        hello: its greeting.
        owner: who runs its machine.

    Attributes:
        hello: the same.
        observers: the machine's.
        open: whether requests can be made.
        workers: the processes that have not been ended, by the agent's numbers for them.
        patience: how long an answer may take at most, seconds, whatever its request says.
    """

    def __init__(self, stream: Stream, hello: Hello, owner: Owner) -> None:
        self.hello = hello
        self.observers = owner.observers
        self.open = True
        self.workers: dict[int, Worker] = {}
        self.patience = float("inf")
        self._stream = stream
        self._owner = owner
        self._sequence = itertools.count(1)
        self._worker = 0
        self._ahead: tuple[Frame, ...] = ()
        self._early: dict[int, Frame] = {}

    def close(self) -> None:
        """End it; its processes have gone."""
        self.open = False
        self.workers.clear()
        self._stream.close()

    def ask(self, request: Frame, during: object, *, seconds: float | None = None) -> bytes:
        """Make a request, and return what the answer says.

        Args:
            request: its sequence number is filled in.
            during: what a verdict calls it, by str().
            seconds: its deadline; by default the owner's.

        Raises:
            Verdict: the machine, the process or the call is lost.
            ValueError: the agent refused.
        """
        limit = seconds if seconds is not None else self._owner.call_seconds
        return self._collect(self._send(request, during), during, limit).payload

    def spawn(self) -> tuple[int, bytes]:
        """Start a process, or take the one started ahead; returns its number and the answer."""
        if self._ahead:
            for request in self._ahead:
                answer = self._collect(request, "starting a process", self._owner.call_seconds)
            self._ahead = ()
            return request.worker, answer.payload
        worker = self.free_worker()
        return worker, self.ask(Frame(FrameType.SPAWN, worker), "starting a process")

    def renew(self, worker: int) -> bool:
        """End a process that makes no call and start another, which spawn() then takes.

        Neither is waited for, so that the machine does it while the host does something else.

        Returns:
            Whether it was done: only one is started ahead.
        """
        if self._ahead:
            return False
        spawn = Frame(FrameType.SPAWN, self.free_worker())
        self._ahead = tuple(self._send(each) for each in (Frame(FrameType.END, worker), spawn))
        return True

    def free_worker(self) -> int:
        """Return a number for a new process."""
        # not the lowest: one whose start or end was not answered may still be taken
        for step in range(MAX_WORKERS - 1):
            worker = (self._worker + step) % (MAX_WORKERS - 1) + 1
            if worker not in self.workers:
                self._worker = worker
                return worker
        raise RuntimeError(f"more than {MAX_WORKERS - 1} processes at once; end some")

    def _send(self, request: Frame, during: object = "") -> Frame:
        """Send a request, and return it with its sequence number."""
        if not self.open:
            raise StreamLost("the machine is not running any more", during=during)
        if len(request.payload) > MAX_FRAME:
            raise ValueError(f"a program of {len(request.payload)} bytes is too large")
        request = Frame(request.type, request.worker, next(self._sequence), request.payload)
        limit = self._owner.call_seconds
        with self._losses(request, limit, during):
            self._stream.send(request, time.monotonic() + limit)
        return request

    def _collect(self, request: Frame, during: object, limit: float) -> Frame:
        """Return the answer to a request that was sent; limit is in seconds."""
        limit = min(limit, self.patience)
        with self._losses(request, limit, during):
            return self._answer(request, time.monotonic() + limit, during)

    @contextlib.contextmanager
    def _losses(self, request: Frame, limit: float, during: object) -> Iterator[None]:
        """Tell what became of a machine that does not take a request, or does not answer it."""
        try:
            yield
        except StreamEndedError as error:
            raise self._owner.lost(str(error), during) from None
        except DeadlinePassedError:
            raise self._owner.hung(self, request, limit, during) from None
        except (ProcessDied, ValueError):
            raise
        except BaseException:
            # Ctrl-C, say: an answer that nobody waits for is on its way
            self._owner.stop()
            raise

    def _answer(self, request: Frame, deadline: float, during: object) -> Frame:
        if request.sequence in self._early:
            return self._early.pop(request.sequence)
        while True:
            if not self.open:
                raise StreamEndedError("the machine was stopped")
            frame = self._stream.receive(deadline)
            if frame.type is FrameType.KMSG:
                self._owner.log.extend(_record_lines(frame.payload))
            elif frame.type is FrameType.DIED:
                self._died(frame, request, during)
            elif frame.sequence != request.sequence:
                if any(frame.sequence == ahead.sequence for ahead in self._ahead):
                    self._early[frame.sequence] = frame
                # else of a request whose deadline passed
            elif frame.type is FrameType.ERROR:
                raise ValueError(f"the agent refused: {frame.payload.decode(errors='replace')}")
            else:
                return frame

    def _died(self, frame: Frame, request: Frame, during: object) -> None:
        """Note that a process ended by itself; ProcessDied if it is the one that was asked."""
        status = parse_status(frame.payload)
        process = self.workers.pop(frame.worker, None)
        if process:
            process.note_death(status)
        # it may also have died before the request came
        if frame.sequence == request.sequence or (process and frame.worker == request.worker):
            raise ProcessDied(
                f"the process {describe_status(status)}", status=status, during=during
            )


def _record_lines(payload: bytes) -> list[str]:
    """Return the text of one /dev/kmsg record: its first line; the others are tags."""
    message = payload.partition(b";")[2].partition(b"\n")[0]
    message = _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), message)
    return message.decode(errors="replace").splitlines()
