# SPDX-License-Identifier: GPL-2.0-only
"""Asks a kernel about values of fields, and keeps the answers."""

from __future__ import annotations

from errno import ENOTTY, EOPNOTSUPP
from typing import TYPE_CHECKING, Any

from pytest_iommufd.agent.protocol import Program
from pytest_iommufd.caps.model import MOCK, Answer, Key, State, is_number
from pytest_iommufd.iommufd import Context, Request
from pytest_iommufd.iommufd.file import IoctlFile
from pytest_iommufd.uapi import errno_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_iommufd.caps.headers import Headers
    from pytest_iommufd.machine import Process

# A type or an operation that there will never be.
_SPARE = 0x7FFF_FFFF


class Asker:
    """Asks a kernel, and keeps its answers.

    Args:
        process: the process that makes the calls.
        headers: what to ask about.
        device: what it is asked with; see Key.

    Attributes:
        process, headers: the same.
        context: an open /dev/iommu.
        answers: what the kernel has answered, in order.

    Raises:
        OSError: /dev/iommu cannot be opened.
    """

    def __init__(self, process: Process, headers: Headers, device: str = "") -> None:
        self.process = process
        self.headers = headers
        uapi = headers.of("IOMMU_TEST_CMD") if device == MOCK else headers.spoken
        self.context = Context(process, uapi)
        self.answers: dict[Key, Answer] = {}
        self._device = device

    def errnos(
        self,
        command: str,
        field: str,
        numbers: Iterable[int],
        given: Mapping[str, Any] | None = None,
        file: IoctlFile | None = None,
    ) -> dict[int, int]:
        """Make an ioctl with each of several numbers in a field, in one round trip.

        Args:
            command: its full name.
            field: the field's name.
            numbers: what it is to be.
            given: the struct's other fields; those that the header does not have are left out.
            file: what the ioctl is made on; by default the context.

        Returns:
            Each call's errno by its number, 0 for success.
        """
        if file is None:
            file = IoctlFile(self.process, self.headers.of(command), self.context.fd)
        struct = file.uapi.ioctl(command).struct
        known = {
            name: value
            for name, value in (given or {}).items()
            if file.uapi.has(f"{struct}.{name}")
        }
        program = Program()
        calls = {}
        for number in numbers:
            request = Request(command, {**known, field: number}, at=self.process.arena)
            calls[number] = file.add(program, request)
        results = self.process.run(program, during=f"asking about {command}")
        return {number: call.take(results).errno for number, call in calls.items()}

    def errno(self, command: str, **fields: Any) -> int:
        """Make one ioctl with a field, the last one, and return its errno, 0 for success."""
        *given, (field, number) = fields.items()
        return self.errnos(command, field, [number], dict(given))[number]

    def note(
        self, about: str, name: str, state: State, why: str = "", value: str = "", header: str = ""
    ) -> None:
        """Keep an answer.

        Args:
            about: see Key.
            name: likewise.
            state: see Answer.
            why: likewise.
            value: likewise.
            header: what the kernel's header may declare; "" for nothing.
        """
        declared = self.headers.declared(header) if header else None
        self.answers[Key(about, name, self._device)] = Answer(state, value, why, declared)

    def note_all(self, about: str, names: Iterable[str], state: State, why: str) -> None:
        """Keep the same answer to several constants of the header."""
        for name in names:
            self.note(about, name, state, why, header=name)

    def flags(self, about: str, path: str, command: str, given: Mapping[str, Any]) -> None:
        """Ask for each bit of a command's flags, those without a name included.

        Args:
            about: see Key.
            path: the field, `iommu_ioas_map.flags`.
            command: its full name.
            given: the struct's other fields.
        """
        struct, _, field = path.partition(".")
        bits = [1 << bit for bit in range(8 * self.headers.of(path).sizeof(struct, field))]
        values = self.headers.values(path).items()
        named = {name: bit for name, bit in values if bit in bits}
        *unnamed, spare = (bit for bit in bits if bit not in named.values())
        if self.errnos(command, field, [0], given)[0] == EOPNOTSUPP:
            why = "a call without any flag gives EOPNOTSUPP, too"
            self.note_all(about, named, State.UNKNOWN, why)
            return
        named |= {hex(bit): bit for bit in unnamed}
        self.values(about, named, self.errnos(command, field, [spare, *bits], given), spare=spare)

    def types(
        self,
        about: str,
        values: Mapping[str, int],
        command: str,
        field: str,
        given: Mapping[str, Any] | None = None,
        no: Iterable[int] = (EOPNOTSUPP,),
    ) -> None:
        """Ask for values of a field that holds one of several.

        Args:
            about: see Key.
            values: the numbers to ask for, by name.
            command: its full name.
            field: the field's name.
            given: the struct's other fields.
            no: the errnos that say that a number is not supported.
        """
        answers = self.errnos(command, field, [_SPARE, *values.values()], given)
        self.values(about, values, answers, no)

    def values(
        self,
        about: str,
        values: Mapping[str, int],
        answers: Mapping[int, int],
        no: Iterable[int] = (EOPNOTSUPP,),
        spare: int = _SPARE,
    ) -> None:
        """Keep what a kernel answered to values, if it rejects one that nothing defines.

        Args:
            about: see Key.
            values: the numbers by name.
            answers: the errnos by number, that of `spare` included. Of a command that the kernel
                does not have nothing is kept: the command's own answer says it.
            no: the errnos that say that a number is not supported.
            spare: a number that no header defines.
        """
        refusal = answers[spare]
        if refusal == ENOTTY:
            return
        for name, number in values.items():
            got = answers[number]
            if refusal in no:
                state, why = State.NO if got in no else State.YES, _outcome(got)
            else:
                state = State.UNKNOWN
                why = f"{spare:#x}, which no header defines, gives {_outcome(refusal)}, too"
            self.note(about, name, state, why, header="" if is_number(name) else name)


def _outcome(errno: int) -> str:
    return errno_name(errno) if errno else "OK"
