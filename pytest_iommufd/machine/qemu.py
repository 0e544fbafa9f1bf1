# SPDX-License-Identifier: GPL-2.0-only
"""QEMU's command line for one guest, and the kernel's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_iommufd.host import tools
from pytest_iommufd.machine.iommu import IOMMUS, NONE

if TYPE_CHECKING:
    from pathlib import Path

OUTPUT = "qemu"
"""The file, in a guest's folder, for what QEMU itself prints."""
_SAID_CHARACTERS = 100  # it goes into headers
PORT_NAME = "pytest-iommufd"  # boot.c looks for it

KERNEL_ARGUMENTS = (
    "console=ttyS0",
    "panic=-1",  # with -no-reboot, QEMU exits at a panic
    "oops=panic",  # after an oops nothing that a test says can be trusted
    "unknown_nmi_panic",  # an NMI has a kernel that hangs say where it is
    "idle=halt",  # QEMU emulates mwait by a busy loop
    "irqaffinity=0",  # the agent's CPU; from another, each answer would cost more interrupts
    "rdinit=/init",
    "random.trust_cpu=on",
    "tsc=reliable",  # else a slow clock may be chosen under emulation
    "hugepages=8",  # 2 MiB each; the buffers of a test use two
)


@dataclass(frozen=True)
class Guest:
    """What a guest is made of.

    Attributes:
        image: the kernel.
        initramfs: the archive with the agent, or with another init, or none.
        accelerator: "kvm" or "tcg".
        memory: MiB.
        cpus: processors.
        arguments: the kernel's command line.
        agent: whether its init is the agent, which wants its port.
        iommu: a name of IOMMUS, or "none".
    """

    image: Path
    initramfs: Path | None
    accelerator: str
    memory: int = 1024
    cpus: int = 2
    arguments: tuple[str, ...] = KERNEL_ARGUMENTS
    agent: bool = True
    iommu: str = NONE

    def command(self, folder: Path) -> list[str]:
        """Return QEMU's command; its sockets and the console file are in the folder.

        Raises:
            Problem: this machine's QEMU has no such IOMMU.
        """
        program = tools.find(tools.QEMU) or tools.QEMU
        iommu = IOMMUS.get(self.iommu)
        arguments = self.arguments + (iommu.arguments if iommu else ())
        accelerator = "tcg,thread=multi" if self.accelerator == "tcg" else self.accelerator
        command = [
            program,
            *("-name", "pytest-iommufd"),
            *("-nodefaults", "-no-user-config", "-no-reboot"),
            *("-display", "none"),
            # with an IOMMU for interrupts, KVM leaves the I/O APIC to QEMU
            *("-M", "q35,kernel-irqchip=split" if iommu else "q35"),
            *("-accel", accelerator),
            *("-cpu", "max" if self.accelerator == "tcg" else "host"),
            *("-m", str(self.memory)),
            *("-smp", str(self.cpus)),
            *("-kernel", str(self.image)),
            *("-append", " ".join(arguments)),
            *("-chardev", f"file,id=console,path={folder / 'console'}"),
            *("-serial", "chardev:console"),
        ]
        if iommu:
            command += iommu.words(program)
        if self.initramfs:
            command += ["-initrd", str(self.initramfs)]
        if self.agent:
            command += [
                *("-chardev", f"socket,id=agent,path={folder / 'agent'}"),
                *("-device", "virtio-serial-pci,max_ports=2"),
                *("-device", f"virtserialport,chardev=agent,name={PORT_NAME}"),
                *("-chardev", f"socket,id=qmp,path={folder / 'qmp'},server=on,wait=off"),
                *("-mon", "chardev=qmp,mode=control"),
            ]
        return command


def last_words(folder: Path) -> str:
    """Quote the last line that QEMU printed, for the end of a sentence; "" if there is none."""
    said = (folder / OUTPUT).read_text(errors="replace").strip().splitlines()
    return f", saying {said[-1][:_SAID_CHARACTERS]!r}" if said else ""
