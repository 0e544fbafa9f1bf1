# SPDX-License-Identifier: GPL-2.0-only
"""`pytest-iommufd doctor`: what this machine has and lacks, and what mends it."""

# ruff: noqa: T201 - a command prints

from __future__ import annotations

import enum
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_iommufd.errors import Problem
from pytest_iommufd.host import resources, tools
from pytest_iommufd.host.run import ask
from pytest_iommufd.iommufd.leaks import MOCK_DEVICES
from pytest_iommufd.iommufd.object import DEVICE
from pytest_iommufd.kernel.build.make import BUILD_SIZE
from pytest_iommufd.kernel.cache import entries
from pytest_iommufd.kernel.cache.store import VARIABLE, Cache, gigabytes
from pytest_iommufd.kernel.source.packages import SOURCE_SIZE
from pytest_iommufd.lab import Settings
from pytest_iommufd.machine import accel
from pytest_iommufd.machine.iommu import IOMMUS

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

_LISTS = Path("/var/lib/apt/lists")
_MIB = 1 << 20
# What the agent takes: it is compiled for each kernel's structs, whoever built the kernel.
_AGENT = ("gcc", "static libc")


class State(enum.Enum):
    """How a finding is; only MISSING fails the command."""

    OK = "ok"
    NOTE = "note"
    MISSING = "missing"


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        topic: what was looked at, a word or two.
        state: how it is.
        text: what is there or what is not.
        mend: a command or a step, or empty.
        tools: those that are missing, as `kernel.tools` names them.
    """

    topic: str
    state: State
    text: str
    mend: str = ""
    tools: tuple[str, ...] = ()

    def __str__(self) -> str:
        mend = f"; to mend it: {self.mend}" if self.mend else ""
        return f"{self.state.value:<9}{self.topic:<14}{self.text}{mend}"


def check_python() -> Finding:
    """The interpreter, which was new enough to install us."""
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", State.OK, f"{version}, {sys.executable}")


def check_architecture() -> Finding:
    """Kernels are built and booted for one architecture."""
    machine = os.uname().machine
    if machine == "x86_64":
        return Finding("architecture", State.OK, machine)
    return Finding("architecture", State.MISSING, f"{machine}; kernels are built for x86_64")


def check_compiler() -> Finding:
    """What compiles the agent, needed for every run."""
    return _tools("compiler", _AGENT, f"{tools.compiler()}, with a static libc")


def check_kernel_build() -> Finding:
    """What builds kernels, on top of the compiler."""
    names = tuple(name for name in tools.KERNEL_BUILD if name not in _AGENT)
    return _tools("kernel build", names, " ".join(names))


def check_unpack() -> Finding:
    """What unpacks Debian's source packages."""
    return _tools("unpacking", tools.UNPACK, " ".join(tools.UNPACK))


def check_apt() -> Finding:
    """Where X.Y kernels come from; trees and images need none."""
    if absent := tools.missing("apt-get", "apt-cache"):
        return Finding(
            "apt", State.NOTE, f"no {' and no '.join(absent)}: give --kernel a source tree, not X.Y"
        )
    return Finding("apt", State.OK, "X.Y kernels come from Debian's source packages")


def check_install() -> Finding:
    """Whether runs install what they miss."""
    if not shutil.which("apt-get"):
        return Finding("installing", State.NOTE, "runs install nothing: this machine has no apt")
    if os.environ.get(tools.NO_INSTALL):
        return Finding("installing", State.NOTE, f"runs install nothing: {tools.NO_INSTALL} is set")
    if os.geteuid() == 0:
        return Finding("installing", State.OK, "as root, runs install the packages that they miss")
    return Finding(
        "installing", State.NOTE, "not root: a run that misses packages stops and says the command"
    )


def check_qemu() -> Finding:
    """What boots kernels."""
    if tools.trouble(tools.QEMU):
        return _tools("QEMU", (tools.QEMU,), "")
    program = tools.find(tools.QEMU) or ""
    version = ask([program, "--version"]).stdout.decode().partition("\n")[0]
    return Finding("QEMU", State.OK, f"{version}, {program}")


def check_iommus() -> Finding:
    """Which real IOMMUs this QEMU can give a guest, with devices behind them."""
    lacks = []
    for iommu in IOMMUS.values():
        try:
            iommu.words(tools.find(tools.QEMU) or tools.QEMU)
        except (OSError, Problem) as error:
            lacks.append(str(error).partition("\n")[0])
    if lacks:
        return Finding("IOMMUs", State.NOTE, f"{'; '.join(lacks)}; only --iommufd-iommu needs them")
    return Finding("IOMMUs", State.OK, f"--iommufd-iommu {', '.join(IOMMUS)}")


def check_kvm() -> Finding:
    """Whether guests run at full speed; it is tried, if there is a kernel to try it with."""
    slow = "guests are emulated (TCG), which is slower and gives the same verdicts"
    if not accel.DEVICE.exists():
        return Finding("KVM", State.NOTE, f"no {accel.DEVICE}; {slow}")
    if not os.access(accel.DEVICE, os.R_OK | os.W_OK):
        return Finding(
            "KVM",
            State.NOTE,
            f"{accel.DEVICE} may not be opened by this user; {slow}",
            "sudo usermod -aG kvm $USER, and log in again",
        )
    cache = Cache.at(None)
    images = [
        entry / record.image
        for entry in entries.find(cache, "", {})
        if (record := entries.read(entry))
    ]
    if not images or tools.missing(tools.QEMU):
        return Finding("KVM", State.NOTE, f"{accel.DEVICE} is there; the first run tries it")
    choice = accel.choose(images[0], cache.root)
    if choice.name == "kvm":
        return Finding("KVM", State.OK, "works: a kernel was booted with it")
    return Finding("KVM", State.NOTE, f"{choice.reason}; {slow}")


def check_cpus() -> Finding:
    """How many of them this process may use, and how many compilers fit its memory."""
    return Finding(
        "CPUs", State.OK, f"{resources.cpus()}; a build runs {resources.jobs()} compilers"
    )


def check_memory() -> Finding:
    """Whether a guest of the default size fits."""
    free = resources.memory() // _MIB
    text = f"{free} MiB available; a guest gets {Settings.memory} MiB, one for each xdist worker"
    if free >= Settings.memory:
        return Finding("memory", State.OK, text)
    return Finding("memory", State.NOTE, text, "pytest --iommufd-memory 512")


def check_cache() -> Finding:
    """Whether the cache folder can be written and has room for a kernel."""
    cache = Cache.at(None)
    elsewhere = f"export {VARIABLE}=FOLDER, one on a file system of this machine that has room"
    # It may not exist yet: then what counts is the folder it will be made in.
    there = next(path for path in (cache.root, *cache.root.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return Finding("cache", State.MISSING, f"{cache.root} cannot be written", elsewhere)
    free = shutil.disk_usage(there).free
    need = SOURCE_SIZE + BUILD_SIZE
    text = f"{cache.root}, {gigabytes(free)} free, a kernel takes {gigabytes(need)}"
    if free >= need:
        return Finding("cache", State.OK, text)
    state = State.NOTE if entries.find(cache, "", {}) else State.MISSING
    return Finding("cache", state, text, elsewhere)


def check_kernels() -> Finding:
    """The kernels that need not be built any more."""
    records = [entries.read(entry) for entry in entries.find(Cache.at(None), "", {})]
    built = [f"{record.name} ({record.release})" for record in records if record]
    if built:
        return Finding("kernels", State.OK, "built: " + ", ".join(built))
    return Finding(
        "kernels",
        State.NOTE,
        "none built yet; a run builds what it needs",
        "pytest-iommufd kernel build 6.12",
    )


def check_running() -> Finding:
    """This machine's own kernel, which only `--kernel running` tests."""
    device = Path(DEVICE)
    release = os.uname().release
    if not device.exists():
        text = f"{release} has no {DEVICE}"
    elif not os.access(device, os.R_OK | os.W_OK):
        text = f"{release} has {DEVICE}; only root may open it"
    else:
        mock = Path(MOCK_DEVICES).exists()
        but = "" if mock else ", but for the rules of mock devices (CONFIG_IOMMUFD_TEST)"
        return Finding("own kernel", State.OK, f"{release} can be tested{but}: --kernel running")
    return Finding("own kernel", State.NOTE, f"{text}; only --kernel running needs that")


CHECKS: tuple[Callable[[], Finding], ...] = (
    check_python,
    check_architecture,
    check_compiler,
    check_kernel_build,
    check_unpack,
    check_apt,
    check_install,
    check_qemu,
    check_iommus,
    check_kvm,
    check_cpus,
    check_memory,
    check_cache,
    check_kernels,
    check_running,
)


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `doctor` command.

    Args:
        commands: the subparsers of `pytest-iommufd`.
    """
    parser = commands.add_parser(
        "doctor",
        help="say what this machine has and lacks, and what mends it",
        description="Exit status 1 when something that every run needs is missing.",
    )
    parser.set_defaults(run=_run)


def _run(_: argparse.Namespace) -> int:
    findings = []
    for check in CHECKS:
        findings.append(check())
        # one by one: trying KVM takes seconds
        print(findings[-1], flush=True)
    lacks = [finding for finding in findings if finding.state is State.MISSING]
    absent = [name for finding in lacks for name in finding.tools]
    if len([finding for finding in lacks if finding.tools]) > 1:
        print(f"\nall tools at once: {_install(absent)}")
    return 1 if lacks else 0


def _tools(topic: str, names: tuple[str, ...], text: str) -> Finding:
    absent = tools.missing(*names)
    if not absent:
        return Finding(topic, State.OK, text)
    what = ", ".join(map(tools.trouble, absent))
    return Finding(topic, State.MISSING, what, _install(absent), tuple(absent))


def _install(names: list[str]) -> str:
    packages = " ".join(tools.packages(names))
    if not shutil.which("apt-get"):
        return f"install what Debian calls {packages}"
    sudo = "" if os.geteuid() == 0 else "sudo "
    # A fresh machine has no package lists, and then apt-get knows no package.
    update = "" if any(_LISTS.glob("*_Packages*")) else f"{sudo}apt-get update && "
    return f"{update}{sudo}apt-get install -y --no-install-recommends {packages}"
