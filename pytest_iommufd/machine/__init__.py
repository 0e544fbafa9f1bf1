# SPDX-License-Identifier: GPL-2.0-only
"""Where the agent runs: a QEMU virtual machine, this machine, or one that ssh reaches."""

from pytest_iommufd.machine.machine import Machine
from pytest_iommufd.machine.process import Process, ProcessEnd
from pytest_iommufd.machine.verdict import (
    AgentFailed,
    BootFailed,
    CallHung,
    GuestExited,
    KernelPanicked,
    KernelSplat,
    LinkCut,
    MachineLost,
    ProcessDied,
    StoodStill,
    StreamLost,
    Verdict,
)

__all__ = [
    "AgentFailed",
    "BootFailed",
    "CallHung",
    "GuestExited",
    "KernelPanicked",
    "KernelSplat",
    "LinkCut",
    "Machine",
    "MachineLost",
    "Process",
    "ProcessDied",
    "ProcessEnd",
    "StoodStill",
    "StreamLost",
    "Verdict",
]
