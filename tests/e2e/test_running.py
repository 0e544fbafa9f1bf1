# SPDX-License-Identifier: GPL-2.0-only
"""`--kernel running`: a suite tests the kernel of the machine that it runs on.

That machine is a guest here, whose kernel has iommufd_test: pytest runs inside it.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pytest
from userland import Userland

import pytest_iommufd
from pytest_iommufd import suites
from pytest_iommufd.agent.build import compiled
from pytest_iommufd.host.child import Child
from pytest_iommufd.kernel import resolve
from pytest_iommufd.kernel.cache.store import default_root
from pytest_iommufd.machine.accel import choose
from pytest_iommufd.machine.qemu import Guest
from pytest_iommufd.uapi import Uapi

INIT = """
import ctypes, os, sys, time
libc = ctypes.CDLL(None, use_errno=True)
for kind, where in (("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"),
                    ("debugfs", "/sys/kernel/debug")):
    libc.mount(kind.encode(), where.encode(), kind.encode(), 0, None)
for module in sys.argv[1].split(","):
    if libc.syscall(313, os.open(module, os.O_RDONLY), b"", 0):  # finit_module on x86-64
        print("module", module, os.strerror(ctypes.get_errno()))
for number in range(3):
    os.dup2(os.open("/dev/ttyS0", os.O_RDWR), number)
os.environ.update(PATH="/usr/bin:/bin", HOME="/tmp", PYTEST_IOMMUFD_CACHE="/tmp/cache",
                  PYTHONPATH=sys.argv[3])
os.makedirs("/tmp/cache")
os.symlink("/agents", "/tmp/cache/agents")
os.chdir("/tmp")
import pytest
options = ["-p", "no:cacheprovider", "--kernel", "running", "-q", "-rs"]
status = pytest.main([*options, *sys.argv[2].split(",")])
print("pytest ended with status", int(status), flush=True)
time.sleep(0.2)
libc.reboot(0x4321fedc)
"""
SECONDS = 240
# Of the suite; emulated Python takes a minute longer for all of it.
FILES = ("test_ids.py", "test_lifetime.py", "test_memory.py", "test_size.py")


@pytest.mark.parametrize("spec", ["6.12"])
def test_a_suite_passes_on_the_running_kernel(spec: str) -> None:
    kernel = resolve(spec)
    userland = Userland()
    python = userland.python()
    for package in (pytest_iommufd, suites):
        userland.tree(Path(package.__path__[0]))
    userland.tree(Path(pytest_iommufd.__path__[0]).parent / "fixtures")
    agent = compiled(Uapi.shipped()[0].layout_source(), default_root())
    userland.file(agent, Path("/agents") / agent.name)
    modules = []
    for module in kernel.modules:
        userland.file(module, Path("/modules") / module.name)
        modules.append(f"/modules/{module.name}")
    userland.text("/init.py", INIT)
    assert kernel.image
    top = Path(suites.__path__[0])
    files = ",".join(str(top / "hwpt_alloc" / name) for name in FILES)
    arguments = (
        "console=ttyS0",
        "panic=-1",
        "quiet",
        "hugepages=8",
        f"rdinit={python}",
        f"-- /init.py {','.join(modules)} {files} {top.parent}",
    )
    with tempfile.TemporaryDirectory(prefix="pytest-iommufd-") as scratch:
        folder = Path(scratch)
        initramfs = folder / "initramfs"
        initramfs.write_bytes(bytes(userland.archive))
        guest = Guest(
            kernel.image,
            initramfs,
            choose(kernel.image, default_root()).name,
            memory=2048,
            arguments=arguments,
            agent=False,
        )
        with (folder / "qemu").open("wb") as output:
            child = Child(guest.command(folder), output=output)
        try:
            ended = child.wait(SECONDS)
        finally:
            child.kill()
        console = (folder / "console").read_text(errors="replace").replace("\r", "")
        said = (folder / "qemu").read_text(errors="replace")
    tail = "\n".join(console.splitlines()[-60:]) + said
    assert ended, tail
    assert "pytest ended with status 0" in console, tail
    passed = re.search(r"(\d+) passed", console)
    assert passed, tail
    assert int(passed[1]) >= 90
