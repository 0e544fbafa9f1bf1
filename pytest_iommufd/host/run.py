# SPDX-License-Identifier: GPL-2.0-only
"""Running programs to their end, so that none of them outlives us."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence


class Log(Protocol):
    """A file opened for writing bytes, without a buffer."""

    def write(self, data: bytes, /) -> object:
        """Append data."""


# Settings of the caller's own kernel builds that would change ours.
_FOREIGN = ("ARCH", "CROSS_COMPILE", "LLVM", "M", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "O", "V", "W")
_FOREIGN_PREFIXES = ("KBUILD_", "KCONFIG_", "INSTALL_", "KCFLAGS", "KCPPFLAGS", "LOCALVERSION")
_GRACE = 5.0
_TIED = Path(__file__).with_name("tied.py")


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for tools: English messages, none of the caller's build settings.

    Args:
        extra: variables to add.

    Returns:
        The environment.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in _FOREIGN and not name.startswith(_FOREIGN_PREFIXES)
    }
    return kept | {"LC_ALL": "C"} | dict(extra or {})


def tied(argv: Sequence[str | Path], number: signal.Signals) -> list[str]:
    """Have a program end when the thread that starts it does, however that ends.

    Args:
        argv: the program and its arguments.
        number: the signal that the kernel sends it.

    Returns:
        What to start in its place; its exit status is 127 when there is no such program.
    """
    tie = [sys.executable, "-IS", str(_TIED), str(os.getpid()), str(int(number))]
    return [*tie, *(os.fspath(word) for word in argv)]


def ask(
    argv: Sequence[str | Path], *, cwd: Path | None = None, text: str = ""
) -> subprocess.CompletedProcess[bytes]:
    """Run a program that ends by itself soon, and keep what it prints.

    Args:
        argv: the program and its arguments.
        cwd: folder to run it in.
        text: what it reads.

    Returns:
        Its exit status, and what it printed on each stream.

    Raises:
        OSError: it cannot be started.
    """
    return subprocess.run(
        argv,
        cwd=cwd,
        env=clean_environment(),
        input=text.encode(),
        capture_output=True,
        check=False,
    )


def run(
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    log: Log | None = None,
    watch: Callable[[str], None] | None = None,
    every: float = 1.0,
    stop: signal.Signals = signal.SIGTERM,
) -> tuple[int, list[str]]:
    """Run a program to its end; kill it and all that it started if we are interrupted.

    Args:
        argv: the program and its arguments.
        cwd: folder to run it in.
        env: variables to add to `clean_environment`.
        log: receives all that it prints, as it comes.
        watch: called with each line that it prints, and with "" in between.
        every: seconds without a line after which it is.
        stop: what it is told to end with, if we are interrupted.

    Returns:
        Its exit status, and the lines it printed on either stream.

    Raises:
        OSError: the log cannot be written.
    """
    process = subprocess.Popen(
        # make, told to stop, stops its whole tree; killed, it would not
        tied(argv, signal.SIGTERM),
        cwd=cwd,
        env=clean_environment(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        process_group=0,
    )
    lines: list[str] = []
    try:
        for line in _lines(process, log, every):
            if line:
                lines.append(line)
            if watch:
                watch(line)
        return process.wait(), lines
    except BaseException:
        _end_group(process, stop)
        raise
    finally:
        if process.stdout:
            process.stdout.close()


def _lines(process: subprocess.Popen[bytes], log: Log | None, every: float) -> Iterator[str]:
    """Lines as they come, without line ends; "" for each while without one."""
    stdout = process.stdout
    if stdout is None:
        return
    rest = b""
    while True:
        if not select.select([stdout], [], [], every)[0]:
            yield ""
            continue
        data = os.read(stdout.fileno(), 1 << 16)
        if log:
            log.write(data)
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace").rstrip()
        if not data:
            if rest:
                yield rest.decode(errors="replace").rstrip()
            return


def _end_group(process: subprocess.Popen[bytes], stop: signal.Signals) -> None:
    for number in (stop, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
