# SPDX-License-Identifier: GPL-2.0-only
"""Machines elsewhere that are this one: behind a real sshd on loopback, or behind a script."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from pytest_iommufd.host.child import Child

if TYPE_CHECKING:
    from types import TracebackType

# A machine is tested by one process here at a time, and these tests may run in several.
HOST = f"lab-{os.getpid()}"
_SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
_SECONDS = 10

_SSHD_CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/authorized
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
PidFile none
{more}
"""
_SSH_CONFIG = """
Host {host}
HostName 127.0.0.1
Port {port}
User {user}
IdentityFile {folder}/key
IdentitiesOnly yes
UserKnownHostsFile {folder}/known
"""
# As root, sshd wants an empty folder there, which is not ours to make.
_IN_A_RUN_OF_ITS_OWN = "mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd && exec"

# What ssh does but for the network; the machine is down while there is a file of that name.
_STAND_IN = """#!/bin/sh
cd {folder}
for command; do :; done
if [ -e down ]; then echo "ssh: connect to host: No route to host" >&2; exit 255; fi
PATH={folder}/there:$PATH {around} sh -c "$command"
status=$?
if [ -e down ]; then echo "Connection closed by remote host" >&2; exit 255; fi
exit $status
"""


class Sshd:
    """An sshd on loopback, and an `ssh` on the PATH that knows it by the name HOST.

    Args:
        folder: for its keys and files, and for the `ssh`.
        monkeypatch: sets the PATH.
        more: lines of sshd_config.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, more: str = "") -> None:
        if not _SSHD:
            pytest.skip("there is no sshd: apt-get install openssh-server")
        self.folder = folder
        self._more = more
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        for name in ("host", "key"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True
            )
        shutil.copy(folder / "key.pub", folder / "authorized")
        kind, key = (folder / "host.pub").read_text().split()[:2]
        (folder / "known").write_text(f"[127.0.0.1]:{self._port} {kind} {key}\n")
        (folder / "config").write_text(
            _SSH_CONFIG.format(host=HOST, port=self._port, user=getpass.getuser(), folder=folder)
        )
        ssh = shutil.which("ssh")
        _program(folder / "bin" / "ssh", f'#!/bin/sh\nexec {ssh} -F {folder}/config "$@"\n')
        monkeypatch.setenv("PATH", f"{folder}/bin:{os.environ['PATH']}")

    def __enter__(self) -> Self:
        config = self.folder / "sshd_config"
        config.write_text(_SSHD_CONFIG.format(port=self._port, folder=self.folder, more=self._more))
        command = [_SSHD, "-D", "-e", "-f", str(config)]
        if os.geteuid() == 0:
            words = " ".join((_IN_A_RUN_OF_ITS_OWN, *map(str, command)))
            command = ["unshare", "-m", "sh", "-c", words]
        with (self.folder / "log").open("wb") as log:
            self._child = Child(list(map(str, command)), output=log)
        end = time.monotonic() + _SECONDS
        while b"Server listening" not in (self.folder / "log").read_bytes():
            if time.monotonic() > end or self._child.status():
                said = (self.folder / "log").read_text()
                self._end()
                pytest.skip(f"sshd does not run here: {said}")
            time.sleep(0.02)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    def _end(self) -> None:
        self.cut()
        self._child.kill()

    def cut(self) -> None:
        """End all connections, as a network does."""
        for pid in self.sessions():
            with contextlib.suppress(ProcessLookupError):  # it ends with the one before
                os.kill(pid, signal.SIGKILL)

    def sessions(self) -> list[int]:
        """The processes that serve those who are logged in."""
        return [pid for pid in _children(self._child.pid) for pid in (*_children(pid), pid)]


class StandIn:
    """A script in the place of ssh, by which the command runs here, and the machine that it shows.

    Args:
        folder: for the script; in its folder `there` are programs that only the machine has.
        monkeypatch: sets the PATH.
        around: words before the command.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, around: str = "") -> None:
        self.folder = folder
        self.script(_STAND_IN.format(folder=folder, around=around))
        monkeypatch.setenv("PATH", f"{folder}/bin:{os.environ['PATH']}")

    def script(self, text: str) -> None:
        """Have ssh be this script."""
        _program(self.folder / "bin" / "ssh", text)

    def has(self, name: str, text: str) -> None:
        """Give the machine a program."""
        _program(self.folder / "there" / name, f"#!/bin/sh\n{text}\n")

    def boots(self, number: int) -> None:
        """Have it be in this boot."""
        (self.folder / "boot").write_text(f"boot-{number}\n")
        self.has("cat", f'case "$1" in *boot_id) read id <{self.folder}/boot; echo $id;; esac')

    def down(self, *, down: bool = True) -> None:
        """Switch it off or on; programs that run there are the caller's to end."""
        (self.folder / "down").touch() if down else (self.folder / "down").unlink()


def _program(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
