# SPDX-License-Identifier: GPL-2.0-only
"""Machines elsewhere: how the agent gets there and ends, and what is said where it cannot."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from elsewhere import HOST, Sshd, StandIn

from pytest_iommufd import lab
from pytest_iommufd.agent import build
from pytest_iommufd.agent.protocol import Program
from pytest_iommufd.errors import Problem
from pytest_iommufd.kernel import resolve
from pytest_iommufd.machine import BootFailed, GuestExited, KernelPanicked, LinkCut, ssh
from pytest_iommufd.machine.remote import Care, RemoteMachine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_iommufd.machine import Process

LEFT = "pytest-iommufd-????????"
FOLDERS = ("/tmp", "/var/tmp", "/dev/shm", "/run", "/root")  # noqa: S108 - what is looked at
LONG = 600  # seconds
BOOT_SECONDS = 20
NOT_ROOT = 'if [ "$1" = -un ]; then echo jane; else echo 1000; fi'


@pytest.fixture
def sshd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    with Sshd(tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    return StandIn(tmp_path, monkeypatch)


@pytest.fixture
def remote(agent_program: Path, tmp_path: Path) -> Iterator[Callable[..., RemoteMachine]]:
    """Makes machines elsewhere."""
    made: list[RemoteMachine] = []

    def make(host: str = HOST, *, call_seconds: float = 10.0, **care: float | str) -> RemoteMachine:
        machine = RemoteMachine(
            host,
            agent_program,
            Care(**care),  # type: ignore[arg-type]
            locks=tmp_path / "locks",
            boot_seconds=BOOT_SECONDS,
            call_seconds=call_seconds,
        )
        made.append(machine)
        return machine

    yield make
    for machine in made:
        machine.close()


def left() -> set[Path]:
    return {path for folder in FOLDERS for path in Path(folder).glob(LEFT)}


def agent_of(process: Process) -> int:
    """The agent that has made a process, which is on this machine, too."""
    stat = Path(f"/proc/{process.pid}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[1])


def sleep(process: Process, seconds: float = 60) -> None:
    program = Program()
    program.write(process.arena, LONG.to_bytes(8, "little") + bytes(8))
    program.syscall("nanosleep", process.arena, 0)
    process.run(program, seconds=seconds)


def after(seconds: float, what: Callable[[], object]) -> None:
    threading.Timer(seconds, what).start()


# ---- the good way ----


def test_an_sshd_starts_the_agent_and_nothing_is_left(
    sshd: Sshd, remote: Callable[..., RemoteMachine], gone: Callable[[int], bool]
) -> None:
    before = left()
    machine = remote()
    process = machine.process()
    assert machine.hello.release == os.uname().release
    assert left() == before, "the program's file is still there"
    agent = agent_of(process)
    assert process.read_file("/proc/self/comm")
    assert sshd.sessions()
    machine.stop()
    assert gone(agent)
    assert gone(process.pid)
    assert left() == before


def test_it_can_be_used_again(sshd: Sshd, remote: Callable[..., RemoteMachine]) -> None:
    machine = remote()
    first = machine.process().pid
    machine.stop()
    assert machine.process().pid != first
    assert machine.boots == 2
    assert sshd.sessions()


def test_two_runs_do_not_test_one_machine_at_once(
    stand_in: StandIn, remote: Callable[..., RemoteMachine]
) -> None:
    stand_in.boots(1)
    first = remote()
    first.wait()
    with pytest.raises(BootFailed, match=f"root@{HOST} is in use: another run") as caught:
        remote(f"root@{HOST}").wait()
    assert "one run at a time" in str(caught.value)
    first.stop()  # as when it was lost: it is still to be used again
    with pytest.raises(BootFailed, match="is in use"):
        remote().wait()
    first.close()
    assert remote().process().pid


@pytest.mark.parametrize("shell", ["dash", "bash", "tcsh", "fish", "zsh", "ksh"])
def test_any_login_shell_starts_it(
    stand_in: StandIn, remote: Callable[..., RemoteMachine], shell: str
) -> None:
    if not shutil.which(shell):
        pytest.skip(f"there is no {shell}")
    stand_in.script(f'#!/bin/sh\nfor command; do :; done\nexec {shell} -c "$command"\n')
    assert remote().wait().machine == os.uname().machine


def test_a_banner_is_skipped(stand_in: StandIn, remote: Callable[..., RemoteMachine]) -> None:
    banner = 'echo "Welcome to"; echo; printf "the lab: "'
    stand_in.script(f'#!/bin/sh\nfor command; do :; done\n{banner}\nexec sh -c "$command"\n')
    assert remote().wait().page_size
    assert ssh.look(HOST).machine == os.uname().machine


def test_sudo_is_used_by_who_is_not_root(
    stand_in: StandIn, remote: Callable[..., RemoteMachine]
) -> None:
    stand_in.has("id", NOT_ROOT)
    stand_in.has("sudo", f'printf "%s\\n" "$*" >>{stand_in.folder}/sudo; shift; exec "$@"')
    assert remote().process().pid
    asked, started = (stand_in.folder / "sudo").read_text().split("\n", 1)
    assert asked == "-n true"
    assert started.startswith("-n sh -c ")


def test_the_header_says_on_which_machine_it_runs(stand_in: StandIn, cache_root: Path) -> None:
    stand_in.boots(1)
    bench = lab.Bench(resolve(f"ssh:root@{HOST}"), lab.Settings(cache_root))
    assert bench.describe().startswith(f"ssh-root_{HOST}: release {os.uname().release}, ")
    assert (
        f"source the machine root@{HOST}, whose own kernel is tested: iommufd_test can crash"
    ) in bench.describe()


# ---- who cannot be reached, or not be used ----


@pytest.mark.skipif(not shutil.which("ssh"), reason="there is no ssh: openssh-client")
def test_no_such_host() -> None:
    with pytest.raises(Problem, match="there is no machine of that name") as caught:
        ssh.look("no-such-host.invalid")
    assert "~/.ssh/config" in str(caught.value)


def test_no_key(sshd: Sshd) -> None:
    (sshd.folder / "authorized").write_text("")
    with pytest.raises(Problem, match="does not log this user in without a password") as caught:
        ssh.look(HOST)
    assert f"ssh-copy-id {HOST}" in str(caught.value)


def test_an_unknown_host_key(sshd: Sshd) -> None:
    (sshd.folder / "known").write_text("")
    with pytest.raises(Problem, match="its host key is not known here"):
        ssh.look(HOST)


def test_no_sshd(sshd: Sshd) -> None:
    config = sshd.folder / "config"
    config.write_text(config.read_text().replace("Port ", "Port 1\n#"))
    with pytest.raises(Problem, match="no sshd listens there"):
        ssh.look(HOST)


def test_no_ssh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Problem, match="missing on this machine: ssh") as caught:
        ssh.look(HOST)
    assert "openssh-client" in str(caught.value)


def test_a_machine_that_is_silent(stand_in: StandIn) -> None:
    stand_in.script("#!/bin/sh\nexec sleep 60\n")
    with pytest.raises(Problem, match="it does not answer"):
        ssh.look(HOST, seconds=0.5)


def test_a_shell_that_runs_nothing_is_quoted(stand_in: StandIn) -> None:
    stand_in.script("#!/bin/sh\necho This account is currently not available.\nexit 1\n")
    with pytest.raises(Problem, match="its login shell did not run the command") as caught:
        ssh.look(HOST)
    assert "This account is currently not available." in str(caught.value)


def test_a_banner_without_end(stand_in: StandIn, remote: Callable[..., RemoteMachine]) -> None:
    stand_in.script("#!/bin/sh\nwhile :; do printf xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done\n")
    with pytest.raises(BootFailed, match="prints without end before it runs a command"):
        remote().wait()


@pytest.mark.parametrize("sudo", [True, False])
def test_no_root(stand_in: StandIn, remote: Callable[..., RemoteMachine], *, sudo: bool) -> None:
    stand_in.has("id", NOT_ROOT)
    if sudo:
        stand_in.has("sudo", 'echo "sudo: a password is required" >&2; exit 1')
    else:
        for tool in ("sh", "mktemp"):
            (stand_in.folder / "there" / tool).symlink_to(str(shutil.which(tool)))
        here = f"{stand_in.folder}/there"
        stand_in.script(f'#!/bin/sh\nfor command; do :; done\nPATH={here} exec sh -c "$command"\n')
    what = "sudo there wants a password" if sudo else "sudo is not installed there"
    with pytest.raises(BootFailed, match=f"jane is not root on {HOST}, and {what}") as caught:
        remote().wait()
    assert f"--kernel ssh:root@{HOST}" in str(caught.value)


def test_no_dev_iommu(stand_in: StandIn, cache_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in.boots(1)
    monkeypatch.setattr(lab, "DEVICE", "/dev/no-iommu")
    bench = lab.Bench(resolve(f"ssh:{HOST}"), lab.Settings(cache_root))
    no_device = pytest.raises(Problem, match="has no usable /dev/no-iommu")
    with closing(bench.machine), no_device as caught:
        bench.ready()
    assert f"modprobe iommufd on {HOST}" in str(caught.value)


def noexec(*folders: str) -> str:
    """Words that run a command where programs in these folders cannot be executed."""
    words = ["unshare", "-rm", "sh", "-c"]
    if subprocess.run([*words, ":"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespace can be made here (unshare -rm)")
    mounts = "".join(f"mount -t tmpfs -o noexec none {folder} && " for folder in folders)
    return f"unshare -rm sh -c '{mounts} exec \"$@\"' sh"


def test_another_folder_is_taken_where_tmp_is_noexec(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remote: Callable[..., RemoteMachine]
) -> None:
    StandIn(tmp_path, monkeypatch, around=noexec("/dev/shm", "/var/tmp"))  # noqa: S108
    assert remote().process().pid


def test_no_folder_takes_a_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remote: Callable[..., RemoteMachine]
) -> None:
    StandIn(tmp_path, monkeypatch, around=noexec(*FOLDERS))
    with pytest.raises(BootFailed, match="each is mounted noexec or cannot be written") as caught:
        remote().wait()
    assert "remount,exec /tmp" in str(caught.value)


def test_a_copy_that_is_cut_short_leaves_nothing(stand_in: StandIn) -> None:
    before = left()
    command = ssh.start_command(HOST, 1000, 10)
    done = subprocess.run(command, input=b"short", capture_output=True, check=False)
    assert b"no-room" in done.stdout
    assert stand_in.folder.exists()
    assert left() == before


def test_an_architecture_without_a_compiler_here(
    stand_in: StandIn, cache_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = "riscv64"
    stand_in.boots(1)
    stand_in.has("uname", f"echo {other}")
    monkeypatch.setattr(build, "_CROSS", "-no-such-gcc")
    with pytest.raises(Problem, match="no C compiler: riscv64-no-such-gcc") as caught:
        lab.Bench(resolve(f"ssh:{HOST}"), lab.Settings(cache_root))
    assert "gcc-riscv64-linux-gnu" in str(caught.value)


def test_an_architecture_that_the_agent_does_not_know(stand_in: StandIn, cache_root: Path) -> None:
    stand_in.boots(1)
    stand_in.has("uname", "echo s390x")
    with pytest.raises(Problem, match="cannot run on an architecture called s390x"):
        lab.Bench(resolve(f"ssh:{HOST}"), lab.Settings(cache_root))


# ---- what becomes of it ----


def test_a_link_that_is_cut_in_a_call_says_nothing_of_the_kernel(
    sshd: Sshd, remote: Callable[..., RemoteMachine], gone: Callable[[int], bool]
) -> None:
    machine = remote()
    process = machine.process()
    agent = agent_of(process)
    after(0.3, sshd.cut)
    with pytest.raises(LinkCut, match=f"the link to {HOST} was cut, and its kernel runs on"):
        sleep(process)
    assert gone(agent)
    assert gone(process.pid)
    assert machine.process().pid


def test_a_silent_link_is_noticed_before_a_call_is_said_to_hang(
    sshd: Sshd, remote: Callable[..., RemoteMachine]
) -> None:
    process = remote(call_seconds=8).process()
    for pid in sshd.sessions():
        os.kill(pid, signal.SIGSTOP)
    with pytest.raises(LinkCut):
        sleep(process, seconds=8)


def crash(stand_in: StandIn, agent: int, *, boot: int) -> None:
    """Have the machine lose all that it did, and be in another boot when it is up again."""
    stand_in.down()
    os.kill(agent, signal.SIGKILL)
    stand_in.boots(boot)


def test_a_machine_that_was_booted_again_is_waited_for(
    stand_in: StandIn, remote: Callable[..., RemoteMachine]
) -> None:
    stand_in.boots(1)
    machine = remote()
    process = machine.process()
    agent = agent_of(process)
    after(0.3, lambda: crash(stand_in, agent, boot=2))
    after(3.0, lambda: stand_in.down(down=False))
    began = time.monotonic()
    with pytest.raises(GuestExited, match="booted again: its kernel panicked, or its power"):
        sleep(process)
    assert time.monotonic() - began > 2.5
    assert machine.process().pid


def test_a_link_that_ends_once_more_is_tried_again(
    stand_in: StandIn, remote: Callable[..., RemoteMachine]
) -> None:
    machine = remote()
    machine.wait()
    machine.stop()
    ssh = stand_in.folder / "bin" / "ssh"
    first = f'case "$*" in *stdio*) if rm {stand_in.folder}/once; then exit 255; fi;; esac'
    (stand_in.folder / "once").touch()
    ssh.write_text(ssh.read_text().replace("for command;", f"{first}\nfor command;"))
    assert machine.process().pid
    assert not (stand_in.folder / "once").exists()
    assert machine.boots == 2


def test_the_console_tells_a_panic(stand_in: StandIn, remote: Callable[..., RemoteMachine]) -> None:
    stand_in.boots(1)
    log = stand_in.folder / "console"
    log.touch()
    machine = remote(console=f"tail -f {stand_in.folder}/console")
    process = machine.process()
    agent = agent_of(process)

    def panic() -> None:
        log.write_text("[ 1.0] Kernel panic - not syncing: sysrq triggered crash\r\n")
        crash(stand_in, agent, boot=2)
        stand_in.down(down=False)

    after(0.3, panic)
    with pytest.raises(KernelPanicked, match="the kernel panicked: sysrq triggered crash"):
        sleep(process)
    log.write_text("")
    assert machine.process().pid


def test_a_console_that_cannot_be_watched_is_told(
    stand_in: StandIn, remote: Callable[..., RemoteMachine]
) -> None:
    stand_in.boots(1)
    machine = remote(console="echo no such line >&2; exit 4")
    machine.wait()
    end = time.monotonic() + BOOT_SECONDS
    while "exited" not in machine.console() and time.monotonic() < end:
        time.sleep(0.1)
    assert "no such line" in machine.console()
    assert "(the command for the console exited with status 4)" in machine.console()


def test_a_machine_that_does_not_come_back(
    stand_in: StandIn, remote: Callable[..., RemoteMachine]
) -> None:
    stand_in.boots(1)
    machine = remote(reboot_seconds=1.5)
    process = machine.process()
    agent = agent_of(process)
    after(0.3, lambda: crash(stand_in, agent, boot=2))
    gone = f"{HOST} did not come back within 1.5 s"
    with pytest.raises(GuestExited, match=gone) as caught:
        sleep(process)
    assert "--iommufd-power-cycle" in str(caught.value)
    with pytest.raises(BootFailed, match=gone):
        machine.process()


def test_one_that_is_back_is_given_as_long_to_answer_as_at_first(
    remote: Callable[..., RemoteMachine], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float] = []

    def look(_host: str, seconds: float = 0) -> ssh.Place:
        given.append(seconds)
        return ssh.Place("x86_64", "1.2.3", "boot-2")

    monkeypatch.setattr(ssh, "look", look)
    for deadline in (BOOT_SECONDS + 1, BOOT_SECONDS - 1):
        assert remote(reboot_seconds=deadline)._back()
    assert given == [BOOT_SECONDS, BOOT_SECONDS - 1]


def test_one_that_does_not_answer_is_power_cycled(
    stand_in: StandIn, remote: Callable[..., RemoteMachine]
) -> None:
    stand_in.boots(1)
    machine = remote(
        reboot_seconds=20,
        power_cycle=f'rm {stand_in.folder}/down; echo "$IOMMUFD_HOST" >{stand_in.folder}/cycled',
    )
    process = machine.process()
    agent = agent_of(process)
    after(0.3, lambda: crash(stand_in, agent, boot=2))
    with pytest.raises(GuestExited, match="was booted again"):
        sleep(process)
    assert (stand_in.folder / "cycled").read_text() == f"{HOST}\n"
    assert machine.remarks == [f"{HOST} was power-cycled"]
    assert machine.process().pid


def test_an_agent_that_is_killed_is_not_the_link(
    stand_in: StandIn, remote: Callable[..., RemoteMachine]
) -> None:
    stand_in.boots(1)
    process = remote().process()
    agent = agent_of(process)
    after(0.3, lambda: os.kill(agent, signal.SIGKILL))
    with pytest.raises(GuestExited, match="exited with status 137"):
        sleep(process)


def test_another_kernel_after_a_boot_is_not_tested(stand_in: StandIn, cache_root: Path) -> None:
    stand_in.boots(1)
    stand_in.has("uname", 'if [ "$1" = -m ]; then exec /bin/uname -m; else echo 1.2.3; fi')
    bench = lab.Bench(resolve(f"ssh:{HOST}"), lab.Settings(cache_root))
    another = pytest.raises(BootFailed, match=f"{HOST} was booted with another kernel")
    with closing(bench.machine), another as caught:
        bench.machine.wait()
    assert "1.2.3, which it ran when the tests began" in str(caught.value)
