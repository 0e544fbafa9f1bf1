# SPDX-License-Identifier: GPL-2.0-only
"""Error numbers by name, and names by number."""

from __future__ import annotations

import errno

from pytest_iommufd.uapi.errors import UnknownNameError, did_you_mean

# Numbers that the kernel uses inside itself. One that reaches user space is a bug worth naming.
_INTERNAL = {
    512: "ERESTARTSYS",
    513: "ERESTARTNOINTR",
    514: "ERESTARTNOHAND",
    515: "ENOIOCTLCMD",
    516: "ERESTART_RESTARTBLOCK",
    517: "EPROBE_DEFER",
    518: "EOPENSTALE",
    519: "ENOPARAM",
    521: "EBADHANDLE",
    522: "ENOTSYNC",
    523: "EBADCOOKIE",
    524: "ENOTSUPP",
    525: "ETOOSMALL",
    526: "ESERVERFAULT",
    527: "EBADTYPE",
    528: "EJUKEBOX",
    529: "EIOCBQUEUED",
    530: "ERECALLCONFLICT",
    531: "ENOGRACE",
}

# Of two names for one number, the one that kernel sources use.
_PREFERRED = {getattr(errno, name): name for name in ("EAGAIN", "EDEADLK", "EOPNOTSUPP")}

_NAMES: dict[int, str] = {**errno.errorcode, **_INTERNAL, **_PREFERRED}
_NUMBERS: dict[str, int] = {
    name: number for name, number in vars(errno).items() if name.startswith("E")
} | {name: number for number, name in _NAMES.items()}


def errno_name(number: int) -> str:
    """Name an error number the way the kernel's sources do.

    Args:
        number: the positive number.

    Returns:
        Its name, such as `EOPNOTSUPP`; `errno 4095` when it has none.
    """
    return _NAMES.get(number, f"errno {number}")


def errno_number(name: str) -> int:
    """Look up an error number.

    Args:
        name: its name; either of two synonyms will do.

    Raises:
        UnknownNameError: no error has that name.
    """
    try:
        return _NUMBERS[name]
    except KeyError:
        raise UnknownNameError(f"{name} is no errno{did_you_mean(name, _NUMBERS)}") from None
