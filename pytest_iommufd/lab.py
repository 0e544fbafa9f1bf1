# SPDX-License-Identifier: GPL-2.0-only
"""The kernels of a run: each resolved, compiled for and booted once."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.agent import build
from pytest_iommufd.agent.protocol import Program
from pytest_iommufd.errors import Problem
from pytest_iommufd.host.display import default
from pytest_iommufd.iommufd.object import DEVICE
from pytest_iommufd.kernel import ready, resolve
from pytest_iommufd.kernel.asis import refusal
from pytest_iommufd.kernel.spec import SSH
from pytest_iommufd.machine import accel, ssh
from pytest_iommufd.machine.iommu import NONE
from pytest_iommufd.machine.local import LocalMachine
from pytest_iommufd.machine.remote import Care, RemoteMachine
from pytest_iommufd.machine.vm import BOOT_SECONDS, CALL_SECONDS, VirtualMachine
from pytest_iommufd.uapi import Uapi, errno_name
from pytest_iommufd.uapi.absence import TEST_COMMAND, without_iommufd_test

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pytest_iommufd.agent.protocol import Hello
    from pytest_iommufd.kernel import Kernel, Progress
    from pytest_iommufd.machine import Machine

_AT_FDCWD = -100


@dataclass(frozen=True)
class Settings:
    """How machines are run.

    Attributes:
        cache: the folder for what is kept between runs.
        acceleration: "auto", "kvm" or "tcg".
        memory: of a guest, MiB.
        boot_seconds: how long a guest may take to serve.
        call_seconds: how long a round trip may take.
        iommu: the name of an IOMMU that guests have, or "none".
        pci_devices: devices, bound to vfio-pci, that tests of a kernel that runs already may take.
        care: what can be done about machines elsewhere.
        configs: files of the user's configuration, for kernels that are built.
    """

    cache: Path
    acceleration: str = "auto"
    memory: int = 1024
    boot_seconds: float = BOOT_SECONDS
    call_seconds: float = CALL_SECONDS
    iommu: str = NONE
    pci_devices: tuple[str, ...] = ()
    care: Care = field(default_factory=Care)
    configs: tuple[Path, ...] = ()


class Bench:
    """One kernel with its machine.

    Args:
        kernel: from kernel.resolve().
        settings: how to run it.

    Attributes:
        kernel: the same; of a machine elsewhere with the release that runs there.
        header: the kernel's own header, if it has one.
        agent: the agent's program, compiled for this kernel's structs.
        acceleration: as text.
        machine: started when it is first used, or by its start().
    """

    def __init__(self, kernel: Kernel, settings: Settings) -> None:
        compiler = "gcc"
        if kernel.host:
            place = ssh.look(kernel.host, settings.boot_seconds)
            compiler = build.compiler_for(place.machine)
            kernel = replace(kernel, release=place.release)
        self.kernel = kernel
        self.header = Uapi.load(kernel.uapi) if kernel.uapi else None
        self._uapi = self.header
        compiled_for = self._uapi or Uapi.shipped()[0]
        layout = compiled_for.layout_source()
        self.agent = build.compiled(layout, settings.cache, compiler=compiler)
        self.machine = self._machine(settings)
        self.machine.on_hello(lambda hello: _check_hello(kernel, compiled_for, hello))
        self._absent: set[str] | None = None

    def _machine(self, settings: Settings) -> Machine:
        if self.kernel.host:
            return RemoteMachine(
                self.kernel.host,
                self.agent,
                settings.care,
                locks=settings.cache / "locks",
                pci_devices=settings.pci_devices,
                boot_seconds=settings.boot_seconds,
                call_seconds=settings.call_seconds,
            )
        if self.kernel.image is None:
            return LocalMachine(
                self.agent, pci_devices=settings.pci_devices, call_seconds=settings.call_seconds
            )
        return VirtualMachine(
            self.kernel.image,
            self.kernel.modules,
            self.agent,
            accel.choose(self.kernel.image, settings.cache, settings.acceleration),
            memory=settings.memory,
            iommu=settings.iommu,
            boot_seconds=settings.boot_seconds,
            call_seconds=settings.call_seconds,
        )

    @property
    def uapi(self) -> Uapi:
        """The kernel's structs: of its headers, or the shipped ones that suit it best."""
        self.ready()
        assert self._uapi  # noqa: S101 - ready() has chosen
        return self._uapi

    def ready(self) -> None:
        """Wait for the machine, and at the first time see that it can be tested.

        Raises:
            BootFailed: it does not come to serve.
            Problem: it serves, but has no /dev/iommu.
        """
        self.machine.wait()
        if self._absent is not None:
            return
        absent = _absent(self.kernel, self.machine, self._uapi or Uapi.shipped()[0])
        uapi = self._uapi or _best(Uapi.shipped(), absent)
        self._uapi = without_iommufd_test(uapi) if TEST_COMMAND in absent else uapi
        self._absent = absent
        self.machine.remarks += filter(None, map(refusal.remark, self.machine.hello.complaints))

    def answers(self, ioctl: str) -> bool:
        """Tell whether the kernel has an ioctl: its header must, and a missing one gives ENOTTY."""
        return self.uapi.has(ioctl) and ioctl not in (self._absent or ())

    def describe(self) -> str:
        """Say in one line what is tested, and how."""
        kernel = self.kernel
        release = kernel.release or "release not known before it boots"
        return (
            f"{kernel.name}: release {release}, acceleration {self.machine.acceleration}, "
            f"{self._devices()}"
            f"agent {build.build_id(self.agent)}, source {kernel.source}{self._danger()}"
        )

    def _danger(self) -> str:
        host = self.kernel.host
        return f", whose own kernel is tested: iommufd_test can crash {host}" if host else ""

    def _devices(self) -> str:
        given = len(self.machine.pci_devices)
        return f"{given} devices for vfio-pci ({self.machine.iommu}), " if given else ""


class Lab:
    """The benches of a run, made when they are first asked for.

    Args:
        settings: how machines are run.
        progress: where builds show theirs; by default on standard error.
    """

    def __init__(self, settings: Settings, progress: Progress | None = None) -> None:
        self.settings = settings
        self._progress = progress
        self._benches: dict[str, Bench] = {}

    def bench(self, spec: str) -> Bench:
        """Return the bench of a kernel spec, its kernel built if need be.

        Raises:
            Problem: the kernel or something that it needs is not to be had.
        """
        if spec not in self._benches:
            self._need_tools(spec)
            kernel = resolve(
                spec,
                cache=self.settings.cache,
                progress=self._progress,
                configs=self.settings.configs,
            )
            self._benches[spec] = Bench(kernel, self.settings)
        return self._benches[spec]

    def _need_tools(self, spec: str) -> None:
        """Have all that a kernel takes, at once: one stop for who must install it by hand."""
        if spec == "running" or spec.startswith(SSH):
            return
        from pytest_iommufd.host import tools  # noqa: PLC0415 - costly, and mostly not needed

        names = [] if tools.find(tools.QEMU) else [tools.QEMU]
        if ready(spec, self.settings.cache, self.settings.configs) is None:
            names += [*tools.KERNEL_BUILD, *tools.UNPACK]
        if tools.missing(*names):
            progress = self._progress or default()
            try:
                tools.ensure(*names, progress=progress)
            finally:
                progress.done()

    @property
    def benches(self) -> Iterable[Bench]:
        """Those made so far."""
        return self._benches.values()

    def close(self) -> None:
        """Stop all machines."""
        for bench in self._benches.values():
            bench.machine.close()


LAB = pytest.StashKey[Lab]()
"""Where pytest's config keeps the lab of its run."""


def _check_hello(kernel: Kernel, uapi: Uapi, hello: Hello) -> None:
    if refused := [each for each in hello.complaints if not refusal.remark(each)]:
        raise Problem(
            f"kernel {kernel.name} {'; '.join(map(refusal.sentence, refused))}",
            expected="modules of the same build as the image",
            mend=f"pytest-iommufd kernel clean {kernel.spec} and run again"
            if kernel.build
            else "give the image and the modules of one build",
        )
    if kernel.host and hello.release != kernel.release:
        raise Problem(
            f"{kernel.host} was booted with another kernel: {hello.release}",
            expected=f"{kernel.release}, which it ran when the tests began",
            mend="make that its boot loader's default",
        )
    uapi.check_layout(hello.layout)


def _absent(kernel: Kernel, machine: Machine, uapi: Uapi) -> set[str]:
    """Return the names of the ioctls that the kernel answers with ENOTTY.

    Raises:
        Problem: /dev/iommu cannot be opened.
    """
    process = machine.process()
    try:
        program = Program()
        path = DEVICE.encode() + b"\0"
        program.write(process.arena, path)
        file = program.syscall("openat", _AT_FDCWD, process.arena, os.O_RDWR, 0, must=True)
        # a size of 0 is refused before a command does anything
        program.write(process.arena, bytes(8))
        calls = {
            ioctl.name: program.syscall("ioctl", file, ioctl.number, process.arena)
            for ioctl in uapi.ioctls
        }
        results = process.run(program, during="asking which ioctls there are")
    finally:
        process.end()
    refused = results[file.index].errno
    if refused:
        raise _no_device(kernel, machine.hello.release, refused)
    return {name for name, call in calls.items() if results[call.index].errno == errno.ENOTTY}


def _best(known: tuple[Uapi, ...], absent: set[str]) -> Uapi:
    """Return the newest of some ABIs whose ioctls the kernel has; iommufd_test tells no age."""
    of_age = absent - {TEST_COMMAND}
    return next((abi for abi in known if not of_age & {i.name for i in abi.ioctls}), known[-1])


def _no_device(kernel: Kernel, release: str, error: int) -> Problem:
    forbidden = error in (errno.EACCES, errno.EPERM)
    why = "this user may not open it" if forbidden else "iommufd is not there"
    return Problem(
        f"kernel {release} has no usable {DEVICE}: {errno_name(error)}, {why}",
        expected="CONFIG_IOMMUFD, built in or with the module loaded",
        mend=f"run as root, or {_IN_A_GUEST}" if forbidden else _advice(kernel),
    )


_IN_A_GUEST = "test in a virtual machine: --kernel 6.12, or --kernel SOURCE-TREE"


def _advice(kernel: Kernel) -> str:
    """What to do about a kernel that lacks iommufd."""
    if kernel.host:
        return f"modprobe iommufd on {kernel.host}, if its kernel has it; else boot one that has"
    if kernel.running:
        return f"modprobe iommufd, if this kernel has it; else {_IN_A_GUEST}"
    if kernel.build is None:
        modules = "" if kernel.modules else "give its modules with --iommufd-modules FOLDER, or "
        return (
            f"{modules}build it with CONFIG_IOMMUFD; "
            "or give its source tree, which is built with it"
        )
    return (
        "it was built with these options, so its source must be at fault: see what it says as it "
        f"boots, with pytest-iommufd shell --kernel {kernel.spec}"
    )
