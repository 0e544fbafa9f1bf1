# SPDX-License-Identifier: GPL-2.0-only
"""What the agent could not prepare: why a kernel refused a module, and what can be done without."""

from __future__ import annotations

import re

# As the agent's C library says them; kernel/module/main.c and signing.c have the reasons.
_REASONS = {
    "Exec format error": "it was built for another kernel or with another configuration",
    "No such file or directory": "it needs something that this kernel does not export",
    "Invalid argument": "it was built for another kernel or with another configuration",
    "Key was rejected by service": "it is not signed, or with a key that this kernel does not know",
    "Required key not available": "it is signed with a key that this kernel does not know",
    "Bad message": "its signature is damaged",
    "Operation not permitted": "this kernel is locked down, or loads no modules",
    "Function not implemented": "this kernel has no modules (CONFIG_MODULES)",
    "Cannot allocate memory": "the guest has too little memory for it (--iommufd-memory)",
}
# What no test needs to run, and what is not as usual without it.
_SPARED = {
    "mount.debugfs": "the guest has no debugfs (CONFIG_DEBUG_FS): what the kernel warns of but "
    "once is seen in one test of each boot, and fault injection has the kernel's own settings",
}
_COMPLAINT = re.compile(r"module\.\d+-(?P<name>.*)\.ko: (?P<error>.*)")


def remark(complaint: str) -> str:
    """Say what the tests go without, though they run.

    Args:
        complaint: as in the agent's greeting.

    Returns:
        What is not as usual; empty when the complaint is about something that is needed.
    """
    return _SPARED.get(complaint.partition(": ")[0], "")


def sentence(complaint: str) -> str:
    """Say what a complaint of the agent means.

    Args:
        complaint: as in its greeting.

    Returns:
        Which module was refused and why; the complaint itself if it is about something else.
    """
    found = _COMPLAINT.fullmatch(complaint)
    if not found:
        return f"refused what the agent prepared: {complaint}"
    reason = _REASONS.get(found["error"], "")
    why = f"{reason} ({found['error']})" if reason else found["error"]
    return f"refused the module {found['name']}: {why}"
