# SPDX-License-Identifier: GPL-2.0-only
"""What every machine can do: start, run programs in processes, tell the kernel's log."""

from __future__ import annotations

import abc
import time
from typing import TYPE_CHECKING

from pytest_iommufd.agent.protocol import Frame, FrameType, Hello
from pytest_iommufd.machine import autopsy
from pytest_iommufd.machine.autopsy import CONSOLE_TAIL_LINES
from pytest_iommufd.machine.process import Process
from pytest_iommufd.machine.pulse import Pulse
from pytest_iommufd.machine.session import Observer, Session
from pytest_iommufd.machine.stream import DeadlinePassedError, Stream, StreamEndedError
from pytest_iommufd.machine.verdict import BootFailed, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.machine.splat import Splat


class _BootError(Exception):
    """A boot failed, and may not the next time."""


class Machine(abc.ABC):
    """A kernel that serves system calls through the agent.

    It starts when it is first needed, or by start(), which returns at once; wait() and the first
    process() wait for it. When it is lost (a panic, say) the next process() starts it again.

    Args:
        boot_seconds: how long it may take to start.
        call_seconds: how long each round trip may take, unless told otherwise.

    Attributes:
        log: the lines of its kernel's log, of all its boots.
        boots: how often it came to serve.
        observers: see all that its processes do.
        splats: what its kernel has reported since settle() has seen to it.
        remarks: what happened to it and is no test's; whoever tells it takes it away.
        restarts: whether a start gives another kernel, as good as new.
        pci_devices: addresses of devices that tests may take through vfio-pci.
        binds: whether they may be bound to vfio-pci for that; else they must be.
        iommu: what they are behind, for people.
    """

    iommu = "this machine's IOMMU"
    pci_devices: tuple[str, ...] = ()
    binds = False
    restarts = False

    def __init__(self, *, boot_seconds: float, call_seconds: float) -> None:
        self.boot_seconds = boot_seconds
        self.call_seconds = call_seconds
        self.log: list[str] = []
        self.boots = 0
        self.observers: list[Observer] = []
        self.splats: list[Splat] = []
        self.remarks: list[str] = []
        self._session: Session | None = None
        self._pulse: Pulse | None = None
        self._seen = 0
        self._failed: BootFailed | None = None
        self._checks: list[Callable[[Hello], None]] = []

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

    @property
    @abc.abstractmethod
    def pid(self) -> int:
        """The process on this machine that runs it, 0 for none."""

    @abc.abstractmethod
    def console(self, lines: int = CONSOLE_TAIL_LINES) -> str:
        """Return the last lines of its console."""

    @property
    @abc.abstractmethod
    def acceleration(self) -> str:
        """How it runs: "kvm", "tcg (why)", or "none" on this machine's own kernel."""

    def exit_status(self) -> str:
        """Say how it ended, "" when it runs."""
        return "exited"

    def backtrace(self) -> None:  # noqa: B027 - not every machine can be made to
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
            self._launch()
            self._pulse = Pulse(self.pid)

    @property
    def running(self) -> bool:
        """Whether it serves: it was started and has not been lost since."""
        return self._session is not None

    def wait(self) -> Hello:
        """Start it if need be, wait until it serves, and return what its agent says.

        Raises:
            BootFailed: now, or at an earlier try in this run.
        """
        return self._serving().hello

    def _serving(self) -> Session:
        if not self._session:
            try:
                self._session = self._boot()
            except _BootError as error:
                self.remarks.append(f"a boot failed and was tried again: {error}")
                try:
                    self._session = self._boot()
                except _BootError as error:
                    self.remarks.pop()
                    raise self._boot_failed(f"{error}, twice") from None
            self.boots += 1
            self._seen = self.sync_log()  # what it prints while it boots is no test's
        return self._session

    def _boot(self) -> Session:
        self.start()
        try:
            return self._greeted(time.monotonic() + self.boot_seconds)
        except DeadlinePassedError:
            what = f"the machine did not serve within {self.boot_seconds:g} s"
        except StreamEndedError as error:
            what = f"the machine did not come to serve: {self.exit_status() or error}"
        except Exception as error:
            # what it says of itself will be the same next time
            raise self._boot_failed(str(error)) from error
        console = self.console()
        self.stop()
        panic = autopsy.panic_in(console)
        if panic:
            what = f"the kernel panicked while it booted: {panic}"
        raise _BootError(autopsy.agent_failure(console) or what)

    def _greeted(self, deadline: float) -> Session:
        stream = self._connect(deadline)
        try:
            greeting = stream.receive(deadline).payload
            try:
                hello = Hello.parse(greeting)
            except (KeyError, ValueError) as error:
                raise ValueError(f"the agent's greeting makes no sense: {error}") from None
            for check in self._checks:
                check(hello)
        except BaseException:
            stream.close()
            raise
        return Session(stream, hello, self)

    def _boot_failed(self, what: str) -> BootFailed:
        self.stop()
        self._failed = BootFailed(what, console=self.console())
        return self._failed

    def stop(self) -> None:
        """End it. It can be started again."""
        if self._session:
            self._session.close()
        self._session = None
        if self._pulse:
            self._pulse.close()
        self._pulse = None
        self._destroy()

    def close(self) -> None:
        """End it for good."""
        self.stop()

    def still(self, since: float) -> tuple[float, str]:
        """Return how many seconds it could not run, and why; see Pulse."""
        return self._pulse.still(since) if self._pulse else (0.0, "")

    def lost(self, what: str, during: object) -> Verdict:
        """Say why the agent's stream ended, and clear up; for the session."""
        return autopsy.lost(self, what, during)

    def hung(self, session: Session, request: Frame, seconds: float, during: object) -> Verdict:
        """Find out why a request is not answered, and get rid of what hangs; for the session."""
        return autopsy.hung(self, session, request, seconds, during)

    # ---- use ----

    @property
    def hello(self) -> Hello:
        """What the agent said; starts the machine if need be."""
        return self.wait()

    def process(self) -> Process:
        """Return a fresh process. The machine is started, or started again, if need be."""
        return Process.start(self._serving())

    @property
    def processes(self) -> tuple[Process, ...]:
        """The processes that have not been ended."""
        workers = self._session.workers.values() if self._session else ()
        return tuple(worker for worker in workers if isinstance(worker, Process))

    def sync_log(self) -> int:
        """Wait for all of the kernel's log so far; returns how many lines `log` has."""
        if self._session:
            self._session.ask(Frame(FrameType.LOG), "reading the kernel log")
        return len(self.log)

    def unseen_log(self) -> list[str]:
        """Return the log's lines since it was last asked for them, or since the machine served."""
        lines = self.log[self._seen :]
        self._seen = len(self.log)
        return lines
