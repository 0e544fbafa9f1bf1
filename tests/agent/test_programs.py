# SPDX-License-Identifier: GPL-2.0-only
"""What programs do, on the kernel of this machine: no call here needs another one."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import resource
import shutil
import signal
import struct
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.agent.protocol import HEADER, MAX_FRAME, WORKER_FDS, FrameType, Program
from pytest_iommufd.machine import CallHung, ProcessDied, autopsy
from pytest_iommufd.machine.local import LocalMachine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_iommufd.machine import Process

AT_FDCWD = -100
PAGE = mmap.PAGESIZE
ANONYMOUS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
SIGNAL_WAIT = 5.0


def pipe(process: Process) -> tuple[int, int]:
    """Make a pipe in a process: the ends to read from and to write to."""
    program = Program()
    program.syscall("pipe2", process.arena, 0)
    program.read(process.arena, 8)
    made, ends = process.run(program)
    assert made.errno == 0
    reader, writer = struct.unpack("<ii", ends.data)
    return reader, writer


def page(process: Process, protection: int = mmap.PROT_READ | mmap.PROT_WRITE) -> int:
    return process.checked("mmap", 0, PAGE, protection, ANONYMOUS, -1, 0)


def gone(pid: int, seconds: float = SIGNAL_WAIT) -> bool:
    """Tell whether a process is gone, or is soon; one that waits to be reaped is gone."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


def test_the_greeting_is_of_this_machine(local: LocalMachine) -> None:
    assert local.hello.release == os.uname().release
    assert local.hello.page_size == PAGE
    assert local.hello.complaints == ()


def test_a_process_is_one_of_its_own(local: LocalMachine, task: Process) -> None:
    other = local.process()
    assert task.syscall("getpid").ret == task.pid
    assert other.syscall("getpid").ret == other.pid != task.pid
    other.end()


def test_a_result_feeds_later_calls(task: Process) -> None:
    task.write(task.arena, b"/proc/self/comm\0")
    program = Program()
    file = program.syscall("openat", AT_FDCWD, task.arena, os.O_RDONLY, 0, must=True)
    copy = program.syscall("dup", file)
    got = program.syscall("read", copy, task.arena, 64)
    program.syscall("close", file)
    again = program.syscall("close", file)
    program.read(task.arena, 7)
    results = task.run(program)
    assert results[got.index].ret == 7
    assert results[-1].data == b"worker\n"
    assert (results[again.index].ret, results[again.index].errno) == (-1, errno.EBADF)


def test_a_result_may_be_an_address_with_an_offset(task: Process) -> None:
    program = Program()
    rights = mmap.PROT_READ | mmap.PROT_WRITE
    at = program.syscall("mmap", 0, PAGE, rights, ANONYMOUS, -1, 0, must=True)
    program.write(at + 100, b"there")
    program.copy(at + 8, at + 100, 5)
    program.read(at, 16)
    program.syscall("munmap", at, PAGE)
    *_, content, unmapped = task.run(program)
    assert content.data == b"\0" * 8 + b"there" + b"\0" * 3
    assert unmapped.errno == 0


def test_memory_keeps_what_was_written(task: Process) -> None:
    data = bytes(range(256)) * 16
    at = page(task)
    task.write(at, data)
    assert task.read(at, len(data)) == data


@pytest.mark.parametrize("where", [0, 8, 1 << 46, (1 << 64) - 8, 1 << 63])
def test_memory_that_is_not_there_is_told(task: Process, where: int) -> None:
    with pytest.raises(MemoryError, match="not all readable"):
        task.read(where, 16)
    with pytest.raises(MemoryError, match="not all writable"):
        task.write(where, bytes(16))
    program = Program()
    program.copy(task.arena, where, 8)
    assert task.run(program)[0].errno == errno.EFAULT
    assert task.syscall("getpid").ret == task.pid


def test_memory_may_end_within_a_read_or_a_write(task: Process) -> None:
    two = task.checked("mmap", 0, 2 * PAGE, mmap.PROT_READ | mmap.PROT_WRITE, ANONYMOUS, -1, 0)
    task.checked("munmap", two + PAGE, PAGE)
    with pytest.raises(MemoryError):
        task.read(two + PAGE - 4, 8)
    with pytest.raises(MemoryError):
        task.write(two + PAGE - 4, b"12345678")
    assert task.read(two + PAGE - 4, 4) == b"1234"


def test_memory_that_may_only_be_read_is_not_written(task: Process) -> None:
    at = page(task, mmap.PROT_READ)
    assert task.read(at, 4) == bytes(4)
    with pytest.raises(MemoryError):
        task.write(at, b"x")


def test_threads_fault_each_by_itself(task: Process) -> None:
    programs = []
    for number in range(8):
        program = Program()
        for _ in range(50):
            program.read(number % 2 * task.arena, 64)
        programs.append(program)
    for number, results in enumerate(task.run_parallel(programs)):
        expected = 0 if number % 2 else errno.EFAULT
        assert {result.errno for result in results} == {expected}


def test_what_must_hold_stops_the_program(task: Process) -> None:
    program = Program()
    program.syscall("close", 999)
    bad = program.syscall("close", 999, must=True)
    program.syscall("getpid")
    program.read(task.arena, 8)
    program.write(task.arena, b"x")
    first, second, *others = task.run(program)
    assert first.errno == second.errno == errno.EBADF
    assert bad.index == 1
    assert {other.errno for other in others} == {errno.ECANCELED}
    assert {other.ret for other in others} == {-1}
    assert others[1].data == b""


def test_a_repeated_call_is_made_so_often(task: Process) -> None:
    reader, writer = pipe(task)
    task.write(task.arena, b"x")
    result = task.syscall("write", writer, task.arena, 1, repeat=25)
    assert len(result.times) == 25
    assert result.ns == result.times[0] > 0
    assert task.syscall("read", reader, task.arena, 100).ret == 25


def test_the_time_is_that_of_the_call(task: Process) -> None:
    task.write(task.arena, struct.pack("<QQ", 0, 30_000_000))
    assert 30e6 <= task.syscall("nanosleep", task.arena, 0).ns < 5e9


def test_a_call_may_be_given_by_number(task: Process) -> None:
    assert task.syscall(task.numbers["getpid"]).ret == task.pid


def test_an_unknown_call_is_named(task: Process) -> None:
    with pytest.raises(ValueError, match="no system call 'fork'"):
        task.syscall("fork")


def test_a_program_that_fits_no_frame_is_not_sent(task: Process) -> None:
    program = Program()
    program.write(task.arena, bytes(MAX_FRAME))
    with pytest.raises(ValueError, match="too large"):
        task.run(program)
    assert task.syscall("getpid").ret == task.pid


def test_an_answer_that_fits_no_frame_is_refused(task: Process) -> None:
    program = Program()
    for _ in range(MAX_FRAME // task.arena_size + 1):
        program.read(task.arena, task.arena_size)
    with pytest.raises(ValueError, match="answer is too large"):
        task.run(program)
    assert task.syscall("getpid").ret == task.pid


def test_answers_of_threads_fit_a_frame_together(task: Process) -> None:
    """64 of them would be a gigabyte."""
    reads = Program()
    for _ in range(10):
        reads.read(task.arena, task.arena_size)
    with pytest.raises(ValueError, match="answer is too large"):
        task.run_parallel([reads] * 3)
    assert len(task.run_parallel([reads])[0][9].data) == task.arena_size


def test_an_answer_that_makes_no_sense_ends_its_process(local: LocalMachine, task: Process) -> None:
    """A test may write to the agent's own pipe: here, a frame of 4 GiB."""
    boots = local.boots
    task.write(task.arena, HEADER.pack(0xFFFFFFFF, FrameType.RESULT, task.worker, 1))
    with pytest.raises(ValueError, match="makes no sense; it was killed"):
        task.syscall("write", WORKER_FDS + 1, task.arena, HEADER.size)
    with pytest.raises(ProcessDied, match="SIGKILL"):
        task.syscall("getpid")
    assert local.process().syscall("getpid").errno == 0
    assert local.boots == boots


def test_a_large_answer_comes_whole(task: Process) -> None:
    at = task.checked("mmap", 0, 8 << 20, mmap.PROT_READ | mmap.PROT_WRITE, ANONYMOUS, -1, 0)
    data = os.urandom(8 << 20)
    task.write(at, data)
    assert task.read(at, 8 << 20) == data


def test_a_fork_shares_open_files_and_copies_memory(task: Process) -> None:
    reader, writer = pipe(task)
    task.write(task.arena, b"before")
    child = task.fork()
    assert child.syscall("getpid").ret == child.pid != task.pid
    assert child.arena == task.arena
    task.write(task.arena, b"after!")
    assert child.read(child.arena, 6) == b"before"
    # a pipe of the parent's, still open in the child when the parent has closed it
    assert child.syscall("write", writer, child.arena, 6).ret == 6
    task.checked("close", writer)
    assert task.syscall("read", reader, task.arena + 64, 6).ret == 6
    assert task.read(task.arena + 64, 6) == b"before"
    child.end()
    # the last one who could write has gone: the end of the file, not a wait
    assert task.syscall("read", reader, task.arena, 1).ret == 0


def test_a_fork_of_a_fork_outlives_both(task: Process) -> None:
    child = task.fork()
    grandchild = child.fork()
    child.end()
    task.end()
    assert grandchild.syscall("getpid").ret == grandchild.pid
    grandchild.end()


def test_a_fork_needs_none_of_the_test_s_descriptors(task: Process) -> None:
    task.write(task.arena, struct.pack("<QQ", 0, 0))
    task.checked("prlimit64", 0, resource.RLIMIT_NOFILE, 0, task.arena + 16)
    task.write(task.arena + 8, task.read(task.arena + 24, 8))
    task.checked("prlimit64", 0, resource.RLIMIT_NOFILE, task.arena, 0)
    child = task.fork()
    assert child.syscall("dup", 0).errno == errno.EMFILE
    assert child.end().status == signal.SIGKILL


def test_threads_run_at_the_same_time(task: Process) -> None:
    """Each waits for the other: one after the other, they would wait for ever."""
    first, second = pipe(task), pipe(task)
    waits = Program()
    waits.syscall("read", first[0], task.arena, 1)
    waits.syscall("write", second[1], task.arena, 1)
    writes = Program()
    writes.syscall("write", first[1], task.arena + 8, 1)
    writes.syscall("read", second[0], task.arena + 8, 1)
    for programs in ([waits, writes], [writes, waits]):
        results = task.run_parallel(programs, seconds=5)
        assert [result.ret for own in results for result in own] == [1, 1, 1, 1]


def test_threads_have_results_of_their_own(task: Process) -> None:
    programs = []
    for number in range(5):
        program = Program()
        same = program.syscall("getpid")
        program.syscall("lseek", 999, same + number, 0)
        program.syscall("gettid")
        programs.append(program)
    results = task.run_parallel(programs)
    assert [own[0].ret for own in results] == [task.pid] * 5
    assert len({own[2].ret for own in results}) == 5


# ---- ends ----


def test_a_killed_process_is_told_with_its_signal_and_at_later_uses(
    local: LocalMachine, task: Process
) -> None:
    with pytest.raises(ProcessDied, match=r"was killed by SIGTERM\nduring: kill\(\)") as caught:
        task.syscall("kill", task.pid, signal.SIGTERM)
    assert caught.value.status == signal.SIGTERM
    for use in (lambda: task.syscall("getpid"), task.fork):
        with pytest.raises(ProcessDied, match="was killed by SIGTERM earlier"):
            use()
    assert task.end().status == signal.SIGTERM
    assert local.process().syscall("getpid").errno == 0


def test_a_process_that_leaves_is_told_with_its_status(task: Process) -> None:
    with pytest.raises(ProcessDied, match="exited with status 7"):
        task.syscall("exit_group", 7)


def test_a_process_killed_while_idle_is_told_at_the_next_use(task: Process) -> None:
    os.kill(task.pid, signal.SIGKILL)
    assert gone(task.pid)
    with pytest.raises(ProcessDied, match="SIGKILL"):
        task.syscall("getpid")


def test_a_process_dies_of_a_bad_instruction_as_any_other(task: Process) -> None:
    at = page(task)
    task.write(at, b"\x0f\x0b")  # ud2
    act = task.arena
    task.write(act, struct.pack("<QQQQ", at, 0, 0, 0))
    # a signal handler that is where no program may run
    assert task.syscall(13, signal.SIGUSR1, act, 0, 8).errno == 0  # rt_sigaction
    with pytest.raises(ProcessDied, match=r"SIGSEGV|SIGILL"):
        task.syscall("kill", task.pid, signal.SIGUSR1)


def test_one_process_s_death_leaves_the_others(local: LocalMachine, task: Process) -> None:
    other = local.process()
    os.kill(other.pid, signal.SIGKILL)
    assert gone(other.pid)
    for _ in range(3):
        assert task.syscall("getpid").ret == task.pid
    with pytest.raises(ProcessDied):
        other.syscall("getpid")


def test_an_end_tells_how_it_was(local: LocalMachine) -> None:
    process = local.process()
    assert process.end().status == signal.SIGKILL
    assert gone(process.pid)
    assert process.end().status == signal.SIGKILL
    with pytest.raises(ProcessDied, match="earlier"):
        process.syscall("getpid")


def test_more_processes_than_there_are_numbers_are_refused(local: LocalMachine) -> None:
    made = [local.process() for _ in range(255 - len(local.processes))]
    with pytest.raises(RuntimeError, match="more than 255 processes"):
        local.process()
    for process in made:
        process.end()
    assert local.process().syscall("getpid").errno == 0


def test_the_end_of_a_fork_is_told_as_any_other(task: Process) -> None:
    child, other = task.fork(), task.fork()
    with pytest.raises(ProcessDied, match="exited with status 7"):
        child.syscall("exit_group", 7)
    task.end()
    assert other.end().status == signal.SIGKILL


# ---- descriptors ----


def test_a_low_limit_of_descriptors_is_raised(agent_program: Path) -> None:
    started = resource.getrlimit(resource.RLIMIT_NOFILE)
    machine = LocalMachine(agent_program)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, started[1]))
    try:
        machine.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, started)
    assert len({machine.process().fork().pid for _ in range(100)}) == 100
    machine.stop()


@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv is not on the PATH")
def test_a_limit_of_descriptors_that_cannot_be_raised_is_told(agent_program: Path) -> None:
    limited = ("setpriv", "--bounding-set=-sys_resource", "prlimit", "--nofile=256:256")
    done = subprocess.run(
        [*limited, agent_program, "--stdio"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert "pytest-iommufd agent failed: it needs 1024 file descriptors" in done.stderr
    assert done.stdout == ""


# ---- hangs ----


@pytest.fixture
def hanging(agent_program: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalMachine]:
    """A machine that does not wait long, and of which no kernel log is asked."""
    monkeypatch.setattr(autopsy, "_blocked_tasks", lambda *_: "blocked tasks")
    made = LocalMachine(agent_program, call_seconds=0.4)
    yield made
    made.stop()


def test_a_call_that_does_not_return_is_told_and_its_process_killed(hanging: LocalMachine) -> None:
    process, other = hanging.process(), hanging.process()
    began = time.monotonic()
    with pytest.raises(CallHung) as caught:
        process.syscall("ppoll", 0, 0, 0, 0)
    assert 0.3 < time.monotonic() - began < 3
    text = str(caught.value)
    assert "a call did not return within 0.4 s; its process was killed" in text
    assert "during: ppoll()" in text
    assert "blocked tasks" in text
    assert gone(process.pid)
    # the machine goes on, and so do its other processes
    assert other.syscall("getpid").ret == other.pid
    assert hanging.process().syscall("getpid").errno == 0
    assert hanging.boots == 1
    with pytest.raises(ProcessDied, match="earlier"):
        process.syscall("getpid")


def test_a_call_may_have_a_deadline_of_its_own(hanging: LocalMachine) -> None:
    process = hanging.process()
    process.write(process.arena, struct.pack("<QQ", 0, 600_000_000))
    assert process.syscall("nanosleep", process.arena, 0, seconds=5).errno == 0


def test_one_thread_that_hangs_is_enough(hanging: LocalMachine) -> None:
    process = hanging.process()
    fine, hangs = Program(), Program()
    fine.syscall("getpid")
    hangs.syscall("ppoll", 0, 0, 0, 0)
    with pytest.raises(CallHung, match="2 programs in parallel"):
        process.run_parallel([fine, hangs])
    assert gone(process.pid)


def test_a_stopped_process_cannot_be_forked_and_is_killed(hanging: LocalMachine) -> None:
    process = hanging.process()
    os.kill(process.pid, signal.SIGSTOP)
    with pytest.raises(CallHung, match="its process was killed"):
        process.fork()
    assert gone(process.pid)
    for _ in range(3):
        assert hanging.process().syscall("getpid").errno == 0
    assert hanging.boots == 1


# ---- the kernel log, fault injection ----


def test_the_log_is_read_when_it_may_be(local: LocalMachine) -> None:
    local.wait()
    assert local.sync_log() == len(local.log)


@pytest.mark.skipif(
    Path("/proc/thread-self/fail-nth").exists(), reason="this kernel has fault injection"
)
def test_without_fault_injection_the_call_is_refused_and_has_no_errno(task: Process) -> None:
    program = Program()
    program.syscall("close", 999, must=True)
    program.syscall("getpid", fail_nth=1)
    assert task.run(program)[1].errno == errno.ECANCELED, "it was not reached"
    with pytest.raises(ValueError, match="cannot inject faults by fail-nth: No such file"):
        task.syscall("getpid", fail_nth=1)


# ---- what is left ----


def test_a_stopped_machine_leaves_no_process(agent_program: Path) -> None:
    machine = LocalMachine(agent_program)
    process = machine.process()
    child = process.fork()
    agent = machine._child.pid  # type: ignore[union-attr]
    machine.stop()
    for pid in (agent, process.pid, child.pid):
        assert gone(pid), pid
    # and it starts again
    assert machine.process().syscall("getpid").errno == 0
    machine.stop()


def test_an_ended_agent_takes_even_a_fork_that_hangs_along(agent_program: Path) -> None:
    machine = LocalMachine(agent_program, call_seconds=0.2)
    machine._hung = lambda *_: CallHung("as it is")  # type: ignore[method-assign]
    process = machine.process()
    child = process.fork()
    with pytest.raises(CallHung):
        child.syscall("ppoll", 0, 0, 0, 0)
    machine.stop()
    try:
        assert gone(child.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)
