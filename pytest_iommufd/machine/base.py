# SPDX-License-Identifier: GPL-2.0-only
"""What every machine can do: start, run programs in processes, tell the kernel's log."""

from __future__ import annotations

import abc
import contextlib
import itertools
import re
import time
from typing import TYPE_CHECKING

from pytest_iommufd.agent.protocol import (
    MAX_FRAME,
    MAX_WORKERS,
    Frame,
    FrameType,
    Hello,
    parse_spawned,
    parse_status,
)
from pytest_iommufd.machine.process import Process, ProcessEnd, describe_status
from pytest_iommufd.machine.splat import PANIC
from pytest_iommufd.machine.stream import DeadlinePassedError, Stream, StreamEndedError
from pytest_iommufd.machine.verdict import (
    BootFailed,
    CallHung,
    GuestExited,
    KernelPanicked,
    MachineLost,
    ProcessDied,
    StreamLost,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# A killed process that is not gone by then hangs in the kernel.
_KILL_SECONDS = 3.0
# How long each look at a machine with a hung call may take.
_EXAMINE_SECONDS = 3.0
_BLOCKED_TASKS = b"w"  # to /proc/sysrq-trigger
CONSOLE_TAIL_LINES = 60
# A warning, an oops and a panic by one call take some 120.
_LAST_WORDS_LINES = 400
# How /dev/kmsg shows bytes that are not printable ASCII, such as a newline in a message.
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")


class Machine(abc.ABC):
    """A kernel that serves system calls through the agent.

    It starts when it is first needed, or by start(), which returns at once; wait() and the first
    process() wait for it. When it is lost (a panic, say) the next process() starts it again.

    Args:
        boot_seconds: how long it may take to start.
        call_seconds: how long each round trip may take, unless told otherwise.

    Attributes:
        pci_devices: addresses of devices that tests may take through vfio-pci.
        binds: whether they may be bound to vfio-pci for that; else they must be.
        iommu: what they are behind, for people.
    """

    iommu = "this machine's IOMMU"
    pci_devices: tuple[str, ...] = ()
    binds = False

    def __init__(self, *, boot_seconds: float, call_seconds: float) -> None:
        self.boot_seconds = boot_seconds
        self.call_seconds = call_seconds
        self.log: list[str] = []
        self.boots = 0
        self._stream: Stream | None = None
        self._hello: Hello | None = None
        self._sequence = itertools.count(1)
        self._processes: dict[int, Process] = {}
        self._worker = 0
        self._ahead: tuple[Frame, ...] = ()
        self._early: dict[int, Frame] = {}
        self._seen = 0
        self._failed: BootFailed | None = None
        self._checks: list[Callable[[Hello], None]] = []
        self._examining = False

    # ---- what each kind of machine provides ----

    @abc.abstractmethod
    def _launch(self) -> None:
        """Start it; return without waiting."""

    @abc.abstractmethod
    def _connect(self, deadline: float) -> Stream:
        """Return the agent's stream; DeadlinePassedError or StreamEndedError when it fails."""

    @abc.abstractmethod
    def _destroy(self) -> None:
        """End it and everything it started; may be called at any time, again too."""

    @property
    @abc.abstractmethod
    def _launched(self) -> bool:
        """Whether it has been started and not destroyed."""

    @abc.abstractmethod
    def console(self, lines: int = CONSOLE_TAIL_LINES) -> str:
        """Return the last lines of its console."""

    @property
    @abc.abstractmethod
    def acceleration(self) -> str:
        """How it runs: "kvm", "tcg (why)", or "none" on this machine's own kernel."""

    def _exit_status(self) -> str:
        return "exited"

    def _backtrace(self) -> None:  # noqa: B027 - not every machine can be made to
        """Have a kernel that does not answer say on its console where it is, if it can be."""

    # ---- life ----

    def on_hello(self, check: Callable[[Hello], None]) -> None:
        """Have a check run at each start; its exception ends the start as BootFailed."""
        self._checks.append(check)

    def start(self) -> None:
        """Start it without waiting, unless it is started."""
        if self._failed:
            raise self._failed
        if not self._launched:
            self._forget()
            self._launch()

    @property
    def serves(self) -> bool:
        """Whether it was started and has not been lost since."""
        return self._hello is not None and self._stream is not None

    def wait(self) -> Hello:
        """Start it if need be, wait until it serves, and return what its agent says.

        Raises:
            BootFailed: now, or at an earlier try in this run.
        """
        if self._hello:
            return self._hello
        self.start()
        deadline = time.monotonic() + self.boot_seconds
        try:
            self._stream = self._connect(deadline)
            frame = self._stream.receive(deadline)
            hello = Hello.parse(frame.payload)
        except DeadlinePassedError:
            raise self._boot_failed(
                f"the machine did not serve within {self.boot_seconds:g} s"
            ) from None
        except StreamEndedError as error:
            why = self._exit_status() or str(error)
            raise self._boot_failed(f"the machine did not come to serve: {why}") from None
        except (KeyError, ValueError) as error:
            raise self._boot_failed(f"the agent's greeting makes no sense: {error}") from None
        for check in self._checks:
            try:
                check(hello)
            except Exception as error:
                raise self._boot_failed(str(error)) from error
        self._hello = hello
        self.boots += 1
        self._seen = self.sync_log()  # what it prints while it boots is no test's
        return hello

    def stop(self) -> None:
        """End it. It can be started again."""
        if self._stream:
            self._stream.close()
        self._stream = None
        self._forget()
        self._destroy()

    def _forget(self) -> None:
        self._hello = None
        self._processes.clear()
        self._ahead = ()
        self._early.clear()

    def _boot_failed(self, what: str) -> BootFailed:
        console = self.console()
        panic = _panic(console)
        if panic:
            what = f"the kernel panicked while it booted: {panic}"
        self.stop()
        self._failed = BootFailed(what, console=console)
        return self._failed

    # ---- use ----

    @property
    def hello(self) -> Hello:
        """What the agent said; starts the machine if need be."""
        return self.wait()

    def process(self) -> Process:
        """Return a fresh process. The machine is started, or started again, if need be."""
        self.wait()
        if self._ahead:
            for request in self._ahead:
                answer = self._collect(request, "starting a process", self.call_seconds)
            self._ahead = ()
            return self._adopt(request.worker, answer)
        worker = self._free_worker()
        answer = self._ask(Frame(FrameType.SPAWN, worker), "starting a process")
        return self._adopt(worker, answer)

    def renew(self, process: Process) -> None:
        """End a process that makes no call, and start another for process() to return.

        Neither is waited for, so that the machine does it while the host does something else;
        process() waits for both.
        """
        if self._ahead or not self.has(process):
            process.end()
            return
        del self._processes[process.worker]
        process.note_death(None)
        spawn = Frame(FrameType.SPAWN, self._free_worker())
        self._ahead = tuple(map(self._send, (Frame(FrameType.END, process.worker), spawn)))

    def fork(self, process: Process) -> Process:
        """Return a copy of a process, which shares its open files."""
        worker = self._free_worker()
        request = Frame(FrameType.FORK, process.worker, payload=worker.to_bytes(4, "little"))
        return self._adopt(worker, self._ask(request, "forking a process"))

    def run(
        self, process: Process, payload: bytes, *, many: bool, seconds: float | None, during: object
    ) -> bytes:
        """Run a program, or several in parallel; Process has the methods for that."""
        kind = FrameType.PARALLEL if many else FrameType.RUN
        return self._ask(
            Frame(kind, process.worker, payload=payload), during, seconds=seconds
        ).payload

    def end(self, process: Process) -> ProcessEnd:
        """Kill a process and wait until the kernel has let go of all it had.

        Raises:
            CallHung: it cannot be killed: it hangs in the kernel. The machine is stopped.
        """
        if not self.has(process):
            return ProcessEnd(None)  # its machine has been started again since
        del self._processes[process.worker]
        answer = self._ask(
            Frame(FrameType.END, process.worker), "ending a process", seconds=_KILL_SECONDS
        )
        return ProcessEnd(parse_status(answer.payload))

    def has(self, process: Process) -> bool:
        """Tell whether a process is one of this run of the machine, and has not been ended."""
        return self._processes.get(process.worker) is process

    def sync_log(self) -> int:
        """Wait for all of the kernel's log so far; returns how many lines `log` has."""
        if self._hello:
            self._ask(Frame(FrameType.LOG), "reading the kernel log")
        return len(self.log)

    def unseen_log(self) -> list[str]:
        """Return the log's lines since it was last asked for them, or since the machine served."""
        lines = self.log[self._seen :]
        self._seen = len(self.log)
        return lines

    @property
    def processes(self) -> tuple[Process, ...]:
        """The processes that have not been ended."""
        return tuple(self._processes.values())

    @property
    def running(self) -> bool:
        """Whether it serves."""
        return self._hello is not None

    # ---- within ----

    def _free_worker(self) -> int:
        # not the lowest: one whose start or end was not answered may still be taken
        for step in range(MAX_WORKERS - 1):
            worker = (self._worker + step) % (MAX_WORKERS - 1) + 1
            if worker not in self._processes:
                self._worker = worker
                return worker
        raise RuntimeError(f"more than {MAX_WORKERS - 1} processes at once; end some")

    def _adopt(self, worker: int, answer: Frame) -> Process:
        pid, arena, arena_size = parse_spawned(answer.payload)
        process = Process(self, worker, pid=pid, arena=arena, arena_size=arena_size)
        self._processes[worker] = process
        return process

    def _ask(self, request: Frame, during: object, *, seconds: float | None = None) -> Frame:
        limit = seconds if seconds is not None else self.call_seconds
        return self._collect(self._send(request, during), during, limit)

    def _send(self, request: Frame, during: object = "") -> Frame:
        """Send a request, and return it with its sequence number."""
        if not self._stream:
            raise StreamLost("the machine is not running any more", during=during)
        if len(request.payload) > MAX_FRAME:
            raise ValueError(f"a program of {len(request.payload)} bytes is too large")
        request = Frame(request.type, request.worker, next(self._sequence), request.payload)
        with self._losses(request, self.call_seconds, during):
            self._stream.send(request, time.monotonic() + self.call_seconds)
        return request

    def _collect(self, request: Frame, during: object, limit: float) -> Frame:
        """Return the answer to a request that was sent; limit is in seconds."""
        if self._examining:
            limit = min(limit, _EXAMINE_SECONDS)
        with self._losses(request, limit, during):
            return self._answer(request, time.monotonic() + limit, during)

    @contextlib.contextmanager
    def _losses(self, request: Frame, limit: float, during: object) -> Iterator[None]:
        """Tell what became of a machine that does not take a request, or does not answer it."""
        try:
            yield
        except StreamEndedError as error:
            raise self._lost(str(error), during) from None
        except DeadlinePassedError:
            raise self._hung(request, limit, during) from None
        except BaseException as error:
            if not isinstance(error, ProcessDied | ValueError):
                # Ctrl-C, say: an answer that nobody waits for is on its way
                self.stop()
            raise

    def _answer(self, request: Frame, deadline: float, during: object) -> Frame:
        if request.sequence in self._early:
            return self._early.pop(request.sequence)
        while True:
            if not self._stream:
                raise StreamEndedError("the machine was stopped")
            frame = self._stream.receive(deadline)
            if frame.type is FrameType.KMSG:
                self.log.extend(_record_lines(frame.payload))
            elif frame.type is FrameType.DIED:
                process = self._note_death(frame)
                # it may also have died before the request came
                if frame.sequence == request.sequence or (
                    process and process.worker == request.worker
                ):
                    status = parse_status(frame.payload)
                    raise ProcessDied(
                        f"the process {describe_status(status)}", status=status, during=during
                    )
            elif frame.sequence != request.sequence:
                if any(frame.sequence == ahead.sequence for ahead in self._ahead):
                    self._early[frame.sequence] = frame
                # else of a request whose deadline passed
            elif frame.type is FrameType.ERROR:
                raise ValueError(f"the agent refused: {frame.payload.decode(errors='replace')}")
            else:
                return frame

    def _note_death(self, frame: Frame) -> Process | None:
        process = self._processes.pop(frame.worker, None)
        if process:
            process.note_death(parse_status(frame.payload))
        return process

    def _lost(self, what: str, during: object) -> MachineLost:
        """Say why the stream ended, and clear up."""
        # the console is written by another process: give its last words a moment
        time.sleep(0.05)
        console = self._last_words()
        status = self._exit_status()
        panic = _panic(console)
        self.stop()
        if panic:
            return KernelPanicked(f"the kernel panicked: {panic}", console=console, during=during)
        if status:
            return GuestExited(f"the machine {status}", console=console, during=during)
        return StreamLost(what, console=console, during=during)

    def _last_words(self) -> str:
        """Return what its console got after the last line of the log, at least some lines."""
        lines = self.console(_LAST_WORDS_LINES).splitlines()
        known = self.log[-1] if self.log else ""
        places = [at for at, line in enumerate(lines) if known and line.endswith(known)]
        new = len(lines) - 1 - places[-1] if places else 0
        return "\n".join(lines[-max(new, CONSOLE_TAIL_LINES) :])

    def _hung(self, request: Frame, limit: float, during: object) -> CallHung:
        """Find out what hangs, get rid of it, and say so."""
        what = f"no answer within {limit:g} s"
        if request.type in (FrameType.RUN, FrameType.PARALLEL, FrameType.FORK):
            what = f"a call did not return within {limit:g} s"
        hung = self._processes.get(request.worker)
        blocked = "" if self._examining else self._blocked_tasks(hung)
        if hung and not self._examining:
            with contextlib.suppress(Verdict):
                hung.end()
        if hung and self._stream:
            return CallHung(f"{what}; its process was killed", console=blocked, during=during)
        if self._stream:
            self._backtrace()
        blocked = "\n".join(filter(None, (blocked, self.console())))
        self.stop()
        return CallHung(
            f"{what}; it cannot be ended, so the machine was stopped",
            console=blocked,
            during=during,
        )

    def _blocked_tasks(self, hung: Process | None) -> str:
        """Have the kernel print the tasks that wait in it; return that and the process's stack."""
        before = len(self.log)
        stack = ""
        self._examining = True
        with contextlib.suppress(Verdict):
            examiner = self.process()
            if hung:
                stack = _where(examiner, hung.pid)
            with contextlib.suppress(OSError):
                examiner.write_file("/proc/sysrq-trigger", _BLOCKED_TASKS)
            examiner.end()
        self._examining = False
        return "\n".join([*self.log[before:], stack])


def _where(examiner: Process, pid: int) -> str:
    """Tell where in the kernel a process is: its stack, or but the function it sleeps in."""
    for name in ("stack", "wchan"):
        with contextlib.suppress(OSError):
            text = examiner.read_file(f"/proc/{pid}/{name}").decode(errors="replace")
            return f"{name} of process {pid}:\n{text}"
    return ""


def _record_lines(payload: bytes) -> list[str]:
    """Return the text of one /dev/kmsg record: its first line; the others are tags."""
    message = payload.partition(b";")[2].partition(b"\n")[0]
    message = _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), message)
    return message.decode(errors="replace").splitlines()


def _panic(console: str) -> str:
    found = PANIC.search(console)
    return found["why"].strip() if found else ""
