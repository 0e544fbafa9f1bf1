# SPDX-License-Identifier: GPL-2.0-only
"""Ioctls as they are sent, to a process that only notes them."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, cast

import pytest

from pytest_iommufd.agent.protocol import OpKind, Program, Result
from pytest_iommufd.iommufd import Context, Ioas, IoctlError, Request
from pytest_iommufd.iommufd.injection import Injection
from pytest_iommufd.iommufd.request import InjectedFailure
from pytest_iommufd.uapi import Uapi

if TYPE_CHECKING:
    from pytest_iommufd.agent.protocol import Op

UAPI = Uapi.shipped()[0]
FD = 3
BITMAP = 0x7000_0000


class Machine:
    """A process on a machine of its own, which grants all but what is made to fail."""

    arena, arena_size = 0x1000_0000, 1 << 20

    def __init__(self) -> None:
        self.observers: list[Any] = []
        self.programs: list[tuple[Op, ...]] = []
        self.calls: list[Any] = []
        self._taken = 0
        self.returns = 0

    def scratch(self, size: int) -> int:
        self._taken += size
        return self.arena + self._taken - size

    def open(self, path: str) -> int:
        assert path == "/dev/iommu"
        return FD

    def run(self, program: Program, **_: object) -> list[Result]:
        for observer in self.observers:
            observer.runs(self, [program])
        self.programs.append(program.ops)
        return [self._result(op) for op in program.ops]

    def _result(self, op: Op) -> Result:
        if op.fail_nth:
            return Result(-1, errno.ENOMEM, 0, fail_nth_left=0)
        return Result(self.returns, 0, 0)

    @property
    def written(self) -> list[bytes]:
        """What the last program wrote."""
        return [op.blob for op in self.programs[-1] if op.kind is OpKind.WRITE]


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def iommufd(machine: Machine) -> Context:
    return Context(cast("Any", machine), UAPI)


def test_a_field_may_be_called_data(iommufd: Context) -> None:
    assert iommufd.ioctl("IOMMU_HWPT_GET_DIRTY_BITMAP", data=BITMAP).data == BITMAP


def test_bytes_are_put_where_their_field_points(iommufd: Context, machine: Machine) -> None:
    iommufd.hwpt_alloc(1, 2, data_len=3, data_uptr=b"abc")
    (call,) = iommufd.calls
    content, struct = machine.written
    assert content == b"abc"
    assert call.pointers["data_uptr"] == UAPI.struct("iommu_hwpt_alloc").load(struct).data_uptr


def test_fields_are_kept_as_they_were_given(iommufd: Context) -> None:
    ioas = Ioas(iommufd, 7)
    ioas.map(0x1000, 0x1000)
    assert iommufd.calls[-1].request.fields["ioas_id"] is ioas


def test_only_the_next_ioctl_is_sent_in_another_way(iommufd: Context, machine: Machine) -> None:
    with iommufd.sending(tail=b"\1", at=BITMAP):
        struct = iommufd.ioctl("IOMMU_IOAS_ALLOC")
        assert machine.written == [bytes(struct) + b"\1"]
        assert struct.size == struct.sizeof + 1
        assert machine.programs[-1][0].args == (BITMAP,)
        iommufd.ioctl("IOMMU_IOAS_ALLOC")
    assert machine.programs[-1][0].args == (machine.arena,)


def test_an_ioctl_that_is_never_sent_fails_the_block(iommufd: Context) -> None:
    with pytest.raises(AssertionError, match="no ioctl was made"), iommufd.sending(tail=b"\1"):
        pass
    assert iommufd.ioctl("IOMMU_IOAS_ALLOC").size == UAPI.sizeof("iommu_ioas_alloc")


@pytest.mark.parametrize(("returns", "outcome"), [(0, "OK"), (84, "84")])
def test_a_positive_result_is_a_success_and_is_told(
    iommufd: Context, machine: Machine, returns: int, outcome: str
) -> None:
    machine.returns = returns
    call = iommufd.send(Request("IOMMU_IOAS_ALLOC"))
    assert (call.result.ret, call.errno) == (returns, 0)
    assert str(call).endswith(f") = {outcome}")


def test_a_program_makes_several_ioctls(iommufd: Context, machine: Machine) -> None:
    program = Program()
    calls = [iommufd.add(program, Request("IOMMU_DESTROY", {"id": one})) for one in (1, 2)]
    results = iommufd.process.run(program)
    assert [call.take(results).argument for call in calls] == [
        UAPI.struct("iommu_destroy", size=8, id=one) for one in (1, 2)
    ]
    assert len(machine.programs) == 1
    assert calls[0].at != calls[1].at


def test_an_injection_is_of_one_machine(iommufd: Context, machine: Machine) -> None:
    injection = Injection(at=1, nth=2)
    machine.observers.append(injection)
    other = Context(cast("Any", Machine()), UAPI)
    for context in (iommufd, other, other):
        context.ioas_alloc()
    with pytest.raises(InjectedFailure, match="ENOMEM"):
        iommufd.ioas_alloc()
    assert injection.fired
    assert injection.call is iommufd.calls[-1]


def test_what_a_call_gives_anyway_is_no_injected_failure(
    iommufd: Context, machine: Machine
) -> None:
    machine.observers.append(Injection(at=0, nth=1, usual=[errno.ENOMEM]))
    with pytest.raises(IoctlError):
        iommufd.ioas_alloc()


def test_contexts_of_a_process_share_its_scratch_memory(iommufd: Context, machine: Machine) -> None:
    other = Context(cast("Any", machine), UAPI)
    assert iommufd.put(b"one", Program()) != other.put(b"another", Program())


def test_a_call_of_a_longer_program_is_not_injected(iommufd: Context, machine: Machine) -> None:
    injection = Injection(at=0, nth=1)
    machine.observers.append(injection)
    program = Program()
    call = iommufd.add(program, Request("IOMMU_IOAS_ALLOC"))
    assert call.take(iommufd.process.run(program)).errno == 0
    assert not injection.made


def test_a_failure_that_a_test_asks_for_is_not_injected(iommufd: Context, machine: Machine) -> None:
    machine.observers.append(Injection(at=0, nth=1))
    with pytest.raises(IoctlError, match="ENOMEM"), iommufd.sending(fail_nth=1):
        iommufd.ioas_alloc()
