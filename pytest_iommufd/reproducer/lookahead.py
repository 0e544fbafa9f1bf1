# SPDX-License-Identifier: GPL-2.0-only
"""What bytes are, by what is done with them after they were written."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_iommufd.agent.protocol import OpKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_iommufd.reproducer.structs import Structs
    from pytest_iommufd.reproducer.trace import Event

# System calls whose value is a file descriptor; some take a name.
OPENS = {"openat", "memfd_create", "eventfd2", "dup", "userfaultfd"}
# Where system calls take a length of what the argument before it points to.
LENGTH_ARGUMENT = dict.fromkeys(("read", "write", "getdents64", "pread64", "pwrite64"), 2)
_SOME_BYTES = 256
_IOCTL_ARGUMENT = 2
# How soon a struct follows the data that it points to, and its reading the call.
_SOON, _VERY_SOON = 8, 4
_TEXT = re.compile(rb"[ -~]+\0")


class Lookahead:
    """Looks at the events after one.

    Args:
        events: all of them.
        structs: the kernel's.
    """

    def __init__(self, events: Sequence[Event], structs: Structs) -> None:
        self._events = events
        self._structs = structs

    def type_of(self, index: int) -> str:
        """Tell which struct an event writes; "" when it is none, or not known to be one."""
        event = self._events[index]
        for other in self._later(index):
            if other.call == "ioctl" and other.args[_IOCTL_ARGUMENT:] == event.args[:1]:
                ioctl = self._structs.ioctl(other.args[1])
                fits = ioctl and ioctl.struct and self._fits(ioctl.struct, event)
                return ioctl.struct if ioctl and fits else ""
        return self._data_type(index)

    def is_text(self, index: int) -> bool:
        """Tell whether an event writes the name of a file that is then opened."""
        event = self._events[index]
        if event.op is None or not _TEXT.fullmatch(event.op.blob):
            return False
        return any(
            event.args[0] in other.args for other in self._later(index) if other.call in OPENS
        )

    def is_polled(self, index: int) -> bool:
        """Tell whether an event writes a struct pollfd, which begins with a file descriptor."""
        address = self._events[index].args[:1]
        return any(
            other.call == "ppoll" and other.args[:1] == address for other in self._later(index)
        )

    def read_after(self, index: int, address: int) -> int:
        """Return which event reads what a call left at an address, at once; -1 for none."""
        event = self._events[index]
        for at, other in enumerate(self._events[index + 1 : index + _VERY_SOON], index + 1):
            if other.op is None or other.program != event.program or other.call:
                break
            if other.op.kind is OpKind.READ and other.args[0] == address:
                return at
        return -1

    def room(self, index: int, address: int) -> int:
        """Return how many bytes a call needs at an address that nobody has written to."""
        event = self._events[index]
        size = _SOME_BYTES
        if event.call in LENGTH_ARGUMENT:
            size = event.args[LENGTH_ARGUMENT[event.call]]
        for other in self._events[index + 1 :]:
            is_read = other.op is not None and other.op.kind is OpKind.READ
            if is_read and other.process is event.process and other.args[0] == address:
                return max(size, other.op.size if other.op else 0)
        return size

    def _later(self, index: int) -> Iterator[Event]:
        """What the process does after an event, until the same place is written again."""
        event = self._events[index]
        for other in self._events[index + 1 :]:
            if other.process is not event.process or other.op is None:
                continue
            if other.op.kind is OpKind.WRITE and other.args[0] == event.args[0]:
                return
            yield other

    def _fits(self, struct: str, event: Event) -> bool:
        return event.op is not None and self._structs.sizeof(struct) <= event.op.size

    def _data_type(self, index: int) -> str:
        """Tell which struct is written, by the struct that points to it next."""
        event = self._events[index]
        assert event.op  # noqa: S101 - for the type checker: it writes
        pointer = event.args[0].to_bytes(8, "little")
        for at, other in enumerate(self._events[index + 1 : index + _SOON], index + 1):
            if other.op is None or other.op.kind is not OpKind.WRITE:
                continue
            if pointer in other.op.blob and other.args[0] != event.args[0]:
                name = self.type_of(at)
                found = self._structs.data_of(name, other.op.blob) if name else ""
                exact = found and self._structs.sizeof(found) == event.op.size
                return found if exact else ""
        return ""
