# SPDX-License-Identifier: GPL-2.0-only
"""`--kernel ssh:HOST`: panics of a kernel elsewhere lose no verdict.

Between the run and the kernel are this machine's ssh and a real sshd. Behind them is a guest, which
is booted again whenever it ends. Its kernel has no network: sshd has a relay in place of a shell.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from elsewhere import HOST, Sshd
from guest_program import compiled
from relay import PORTS
from userland import Userland

from pytest_iommufd.host import tied
from pytest_iommufd.host.child import Child
from pytest_iommufd.kernel import resolve
from pytest_iommufd.kernel.cache.store import default_root
from pytest_iommufd.machine.accel import choose
from pytest_iommufd.machine.qemu import Guest

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
TOOLS = ("cat", "chmod", "head", "id", "mktemp", "rm", "sed", "sh", "uname", "wc")
PANICS = int(os.environ.get("PANICS", "6"))
"""Each takes a boot; 20 lose no verdict either."""
PANICKING = f"""
import pytest

@pytest.mark.parametrize("number", range({2 * PANICS}))
def test_every_other_panics(iommufd, process, number):
    ioas = iommufd.ioas_alloc()
    if number % 2:
        process.write_file("/proc/sysrq-trigger", b"c")
    assert iommufd.ioas_alloc() != ioas
"""


@contextmanager
def machine(spec: str, folder: Path) -> Iterator[None]:
    """A guest that is booted again whenever it ends, with its ports and its console in a folder."""
    kernel = resolve(spec)
    assert kernel.image
    userland = Userland()
    for tool in TOOLS:
        path = shutil.which(tool)
        assert path, tool
        userland.program(Path(path))
        userland.file(Path(path), Path("/bin") / tool)  # where a shell looks for sh
    for number, module in enumerate(kernel.modules):
        userland.file(module, Path("/modules") / str(number))
    source = shutil.copy(HERE / "guest_logins.c", folder)
    userland.file(compiled(Path(source)), Path("/init"))
    initramfs = folder / "initramfs"
    initramfs.write_bytes(bytes(userland.archive))
    accelerator = choose(kernel.image, default_root()).name
    guest = Guest(kernel.image, initramfs, accelerator, memory=256, cpus=1, agent=False)
    words = [*guest.command(folder), "-device", f"virtio-serial-pci,max_ports={PORTS + 1}"]
    for number in range(1, PORTS + 1):
        path = folder / f"port-{number}"
        words += ["-chardev", f"socket,id=port-{number},path={path},server=on,wait=off"]
        words += ["-device", f"virtserialport,chardev=port-{number},nr={number}"]
    (folder / "used").mkdir()
    # QEMU ends with the shell, which ends with this process
    tie = f"{sys.executable} -IS {tied.__file__} $$ {signal.SIGKILL:d}"
    again = f"while :; do rm -f {folder}/used/*; {tie} {shlex.join(words)}; done"
    with (folder / "qemu").open("wb") as output:
        child = Child(["sh", "-c", again], output=output)
    try:
        yield
    finally:
        child.kill()


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A guest of Linux 6.12 that the `ssh` on the PATH reaches as HOST."""
    # a socket's path may not be long
    with tempfile.TemporaryDirectory(prefix="elsewhere-") as name:
        folder = Path(name)
        relay = shlex.join([sys.executable, "-IS", str(HERE / "relay.py"), name])
        with (
            Sshd(folder, monkeypatch, f"ForceCommand {relay}"),
            machine("6.12", folder),
        ):
            yield


def run(pytester: pytest.Pytester, *args: str | Path) -> pytest.RunResult:
    return pytester.runpytest_subprocess(
        *("-p", "no:cacheprovider", "-p", "no:benchmark", "--tb=short", "-q"),
        *(f"--kernel=ssh:{HOST}", "--iommufd-boot-deadline=300", "--iommufd-call-deadline=60"),
        *args,
    )


@pytest.mark.usefixtures("elsewhere")
def test_panics_lose_no_verdict(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(PANICKING)
    result = run(pytester)
    result.assert_outcomes(passed=PANICS, failed=PANICS)
    # the log's last lines come through, or they do not
    said = (f"{HOST} was booted again: ", "the kernel panicked: sysrq triggered crash")
    assert sum(line.startswith(said) for line in result.outlines) == PANICS
