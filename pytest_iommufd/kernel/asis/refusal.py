# SPDX-License-Identifier: GPL-2.0-only
"""Why a kernel refused a module, from the error of finit_module(2) alone."""

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
_COMPLAINT = re.compile(r"module\.\d+-(?P<name>.*)\.ko: (?P<error>.*)")


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
