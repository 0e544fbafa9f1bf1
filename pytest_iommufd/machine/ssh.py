# SPDX-License-Identifier: GPL-2.0-only
"""The ssh program: how it is called, what its errors mean, and what is run on the other side."""

from __future__ import annotations

import os
import re
import select
import shlex
import shutil
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_iommufd.errors import Problem
from pytest_iommufd.host.run import clean_environment
from pytest_iommufd.machine.stream import DeadlinePassedError, StreamEndedError

if TYPE_CHECKING:
    from collections.abc import Sequence

_UNREACHABLE = 255

_CONNECT_SECONDS = 10
_LOOK_SECONDS = 20.0
# Of a call's deadline, the part after which ssh asks a silent machine whether it is there; so a
# machine that has gone is known to have gone before a call is taken for one that hangs.
_ALIVE_PART = 0.25
_ALIVE_QUESTIONS = 2
_BANNER_BYTES = 1 << 16
_PIECE = 1 << 16
_SAID_LINES = 10

_MARK = "pytest-iommufd:"
# No quote, backslash or exclamation mark is in what is run there: the login shell may be a csh.
# A kernel without sysctls has no id of its boot, but its time.
_BOOT = "$(cat /proc/sys/kernel/random/boot_id 2>/dev/null || sed -n s/^btime.//p /proc/stat)"
_LOOK = f'echo "{_MARK} is $(uname -m) $(uname -r) {_BOOT}"'
_AS_ROOT = f"""
if [ "$(id -u)" = 0 ]; then exec sh -c "$0"; fi;
if [ -z "$(command -v sudo)" ]; then echo "{_MARK} no-sudo $(id -un)"; exit 1; fi;
if sudo -n true; then exec sudo -n sh -c "$0"; fi;
echo "{_MARK} no-root $(id -un)"; exit 1
"""
# A file system may be mounted noexec: an empty program shows it, before anything is sent.
_FOLDERS = "/tmp /var/tmp /dev/shm /run /root"  # noqa: S108 - on another machine, by mktemp
_START = """
file=; trap "rm -f $file; exit 1" HUP INT TERM;
for folder in {folders}; do
file=$(mktemp $folder/pytest-iommufd-XXXXXXXX 2>/dev/null) || continue;
trap "rm -f $file; exit 1" HUP INT TERM;
if chmod 700 $file && echo : >$file && $file 2>/dev/null; then break; fi;
rm -f $file; file=;
done;
if [ -z "$file" ]; then echo "{mark} no-folder"; exit 1; fi;
echo "{mark} send";
head -c {size} >$file;
if [ "$(wc -c <$file)" -ne {size} ]; then rm -f $file; echo "{mark} no-room $file"; exit 1; fi;
exec 9<$file; rm -f $file;
echo "{mark} starts {boot}";
exec /proc/self/fd/9 --stdio
"""

# What ssh says, what that means, and what to do about it.
_ERRORS = (
    (
        r"Could not resolve hostname",
        "there is no machine of that name",
        "give a name that DNS or ~/.ssh/config knows",
    ),
    (
        r"Permission denied",
        "it does not log this user in without a password",
        "ssh-copy-id {host}   (or an IdentityFile in ~/.ssh/config)",
    ),
    (
        r"Host key verification failed|host key is known",
        "its host key is not known here, or not the one that is known",
        "ssh {host}   (once by hand, to see and accept its key)",
    ),
    (
        r"Connection refused",
        "no sshd listens there",
        "start sshd there, or name its port in ~/.ssh/config",
    ),
    (r"timed out|No route to host|unreachable", "it does not answer", "see that it is running"),
)


@dataclass(frozen=True)
class Place:
    """What is to be known of a machine before the agent runs on it.

    Attributes:
        machine: its architecture, as `uname -m` prints it.
        release: `uname -r`.
        boot: the id of its boot: another one is another boot.
    """

    machine: str
    release: str
    boot: str


def start_command(host: str, size: int, call_seconds: float) -> list[str]:
    """Return what receives the agent on a machine's standard input, and becomes the agent.

    Args:
        host: `[USER@]HOST`.
        size: of the agent's program, bytes.
        call_seconds: how long a call may take.
    """
    start = _START.format(folders=_FOLDERS, mark=_MARK, size=size, boot=_BOOT)
    return _command(host, _shell(_AS_ROOT, start), call_seconds)


def look(host: str, seconds: float = _LOOK_SECONDS) -> Place:
    """Log in to a machine, and see what it is.

    Args:
        host: `[USER@]HOST`.
        seconds: how long that may take.

    Raises:
        Problem: it cannot be reached, lets nobody in, or runs no command.
    """
    try:
        done = subprocess.run(
            _command(host, _shell(_LOOK), seconds),
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise problem(host, _UNREACHABLE, [f"timed out after {seconds:g} s"]) from None
    printed = done.stdout.decode(errors="replace").splitlines()
    for line in printed:
        words = _marked(line)
        if words[:1] == ["is"] and len(words) == 4:
            return Place(*words[1:])
    said = done.stderr.decode(errors="replace").splitlines()
    raise problem(host, done.returncode, [*printed, *said])


def is_cut(status: int) -> bool:
    """Tell whether an exit status is that of ssh itself, and not of what it ran."""
    return status == _UNREACHABLE or status < 0


def problem(host: str, status: int, said: Sequence[str]) -> Problem:
    """Say why a machine could not be used.

    Args:
        host: `[USER@]HOST`.
        status: the exit status of ssh.
        said: what was printed, by ssh and on the other side.
    """
    lines = [line for line in said if line.strip()]
    text = "\n".join(lines[-_SAID_LINES:])
    expected = f"`ssh -o BatchMode=yes {host} true` must succeed"
    if not is_cut(status):
        return Problem(
            f"{host} was reached, but its login shell did not run the command "
            f"(exit status {status})",
            expected="a shell that runs what ssh gives it; it may print a banner before",
            mend=f"ssh {host} uname -m   must print the machine's architecture",
            detail=text,
        )
    for pattern, what, mend in _ERRORS:
        if re.search(pattern, text):
            return Problem(
                f"{host} cannot be reached by ssh: {what}",
                expected=expected,
                mend=mend.format(host=host),
                detail=text,
            )
    return Problem(f"{host} cannot be reached by ssh", expected=expected, detail=text)


class Opening:
    """What is said before the agent's first frame: the program is sent, or it is told why not.

    Whatever a login shell prints of its own accord is skipped.

    Args:
        host: `[USER@]HOST`.
        reader, writer: descriptors of ssh's output and input, which do not block.
        deadline: a time.monotonic() value, seconds.
    """

    def __init__(self, host: str, reader: int, writer: int, deadline: float) -> None:
        self._host = host
        self._reader = reader
        self._writer = writer
        self._deadline = deadline
        self.banner: list[str] = []
        os.set_blocking(writer, False)

    def start(self, program: bytes) -> str:
        """Have the program started, and return the id of the machine's boot.

        Raises:
            Problem: the machine cannot start it.
            StreamEndedError: ssh ended.
            DeadlinePassedError: it took too long.
        """
        self._until("send")
        self._send(memoryview(program))
        return self._until("starts")[0]

    def _until(self, word: str) -> list[str]:
        while True:
            line = self._line()
            found = _marked(line)
            if found[:1] == [word]:
                return found[1:]
            if found:
                raise _refusal(self._host, *found)
            self.banner.append(line)

    def _line(self) -> str:
        # byte by byte: what follows the last line is the stream's
        line = b""
        while not line.endswith(b"\n"):
            self._wait(self._reader, select.POLLIN)
            byte = os.read(self._reader, 1)
            if not byte:
                self.banner.append(line.decode(errors="replace"))
                raise StreamEndedError("ssh ended before the agent was started")
            line += byte
            if len(line) > _BANNER_BYTES:
                raise Problem(
                    f"{self._host} prints without end before it runs a command",
                    expected="a login shell whose banner is short",
                    mend="have its start-up files print only where standard input is a terminal",
                )
        return line.decode(errors="replace").rstrip()

    def _send(self, data: memoryview) -> None:
        while data:
            self._wait(self._writer, select.POLLOUT)
            try:
                data = data[os.write(self._writer, data[:_PIECE]) :]
            except BrokenPipeError:
                raise StreamEndedError("ssh ended while the agent was copied") from None

    def _wait(self, descriptor: int, event: int) -> None:
        poll = select.poll()
        poll.register(descriptor, event)
        if not poll.poll(max(0.0, self._deadline - time.monotonic()) * 1000):
            raise DeadlinePassedError


def _refusal(host: str, word: str, *about: str) -> Problem:
    about_it = " ".join(about)
    if word == "no-sudo":
        return Problem(
            f"{about_it} is not root on {host}, and sudo is not installed there",
            expected="root, who may open /dev/iommu and read the kernel's log",
            mend=f"--kernel ssh:root@{host.rpartition('@')[2]}, or install sudo there",
        )
    if word == "no-root":
        return Problem(
            f"{about_it} is not root on {host}, and sudo there wants a password",
            expected="`sudo -n true` must succeed there",
            mend=f"--kernel ssh:root@{host.rpartition('@')[2]}, or add to sudoers there: "
            f"{about_it} ALL=(ALL) NOPASSWD: ALL",
        )
    if word == "no-folder":
        return Problem(
            f"no folder of {host} takes a program: each is mounted noexec or cannot be written",
            expected=f"one of {', '.join(_FOLDERS.split())} that root can execute programs in",
            mend=f"mount -o remount,exec /tmp   (on {host})",
        )
    return Problem(
        f"the agent could not be copied to {host}: {about_it} is not whole",
        expected="room for a program of 1 MiB",
        mend=f"df   (on {host})",
    )


def _marked(line: str) -> list[str]:
    """Return the words after our mark, which a banner without a line end may precede."""
    return line.partition(_MARK)[2].split()


def _shell(*words: str) -> str:
    """Return what any login shell takes for `sh -c` with these words."""
    return shlex.join(["exec", "sh", "-c", *(" ".join(word.split()) for word in words)])


def _command(host: str, remote: str, seconds: float) -> list[str]:
    if not shutil.which("ssh"):
        raise Problem(
            "missing on this machine: ssh",
            expected=f"the program by which {host} is reached",
            mend="apt-get install -y openssh-client",
        )
    options = {
        "BatchMode": "yes",
        "ConnectTimeout": _CONNECT_SECONDS,
        "ServerAliveInterval": max(1, int(seconds * _ALIVE_PART)),
        "ServerAliveCountMax": _ALIVE_QUESTIONS,
        # a shared connection would outlive a machine that panics
        "ControlMaster": "no",
        "ControlPath": "none",
        "RemoteCommand": "none",
    }
    given = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    return ["ssh", "-T", "-a", "-x", *given, "--", host, remote]
