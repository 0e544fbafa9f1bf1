# SPDX-License-Identifier: GPL-2.0-only
"""Where the struct is: nowhere, half readable, read-only, at an odd address."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import IoctlError, rule

from .conftest import diverging
from .raw import others, outcomes

if TYPE_CHECKING:
    from pytest_iommufd.iommufd import Context


UNKNOWN = 9999
KERNEL = 0xFFFF_8000_0000_0000


def lowest_free(iommufd: Context) -> tuple[int, int]:
    """Return the next object id and the next file descriptor."""
    ioas = iommufd.ioas_alloc()
    ioas.destroy()
    fd = iommufd.process.checked("dup", iommufd.fd)
    iommufd.process.checked("close", fd)
    return ioas.id, fd


@rule("generic.pointer.unreadable")
def test_struct_is_nowhere(expected, iommufd, requests, unmapped):
    for pointer in (0, unmapped, KERNEL):
        assert others(expected.result, outcomes(iommufd, requests, pointer)) == {}


@rule("generic.pointer.unreadable_part")
def test_struct_ends_where_nothing_can_be_read(expected, command):
    whole = command.of_size(command.sizeof)
    contents = (whole[:readable] for readable in (2, 4, 5, command.sizeof - 1))
    expected.check(*command.calls(contents, at_end=True))


@rule("generic.pointer.unaligned")
def test_struct_need_not_be_aligned(expected, sample, buffer, page_size):
    for offset in (1, page_size - 5):
        with expected:
            answer = sample.call(sample.content, at=buffer.address + offset)
        sample.renew(answer)


@rule("generic.read_only.silent")
def test_command_without_answer(expected, silent):
    with expected:
        silent.call_read_only(silent.content)


@rule("generic.read_only.asking")
def test_answer_cannot_be_written(expected, asking):
    with expected:
        asking.call_read_only(asking.content)


@rule("generic.read_only.creating")
def test_new_objects_are_undone(expected, creating, iommufd):
    before = lowest_free(iommufd)
    with expected:
        creating.call_read_only(creating.content)
    assert lowest_free(iommufd) == before


@rule("generic.read_only.changing")
def test_change_is_kept(expected, changing):
    with expected:
        changing.call_read_only(changing.content)
    assert changing.took_effect()


@rule("generic.read_only.failing")
def test_another_error_is_told(expected, first_id_field):
    with expected:
        first_id_field.valid.call_read_only(next(first_id_field.with_numbers([UNKNOWN])))


@diverging("read_only.failing")
def test_another_error_is_hidden(expected, divergence):
    with expected:
        divergence.valid.call_read_only(next(divergence.with_numbers([UNKNOWN])))


@rule("generic.answer.only_struct")
def test_nothing_behind_the_struct_is_written(sample):
    around = b"\xaa" * 64
    assert sample.call(sample.content + around)[sample.sizeof :] == around


@rule("generic.answer.only_size")
def test_nothing_behind_the_size_is_written(old_sample, first_version):
    least = first_version(old_sample)
    around = b"\xaa" * (64 + old_sample.sizeof - least)
    assert old_sample.call(old_sample.with_size(least) + around)[least:] == around


@rule("generic.answer.newer_program")
def test_answer_to_a_newer_program(sample):
    given = sample.with_size(sample.sizeof + 16)
    after = sample.call(given + b"\xaa" * 16)
    assert after[:4] == given[:4]
    assert after[sample.sizeof :] == bytes(16) + b"\xaa" * 16


@rule("generic.answer.inputs_stay")
def test_inputs_stay(sample):
    assert sample.without_answers(sample.call(sample.content)) == sample.content


@rule("generic.answer.garbage")
def test_garbage_in_answers(expected, answering):
    names = [
        name
        for name in answering.answers()
        if name.startswith("out_") and not answering.is_new(name)
    ]
    content = bytearray(answering.content)
    for name in names:
        first = answering.uapi.offsetof(answering.ioctl.struct, name)
        size = answering.uapi.sizeof(answering.ioctl.struct, name)
        content[first : first + size] = b"\xee" * size
    with expected:
        answer = answering.call(bytes(content))
    struct = answering.uapi.struct(answering.ioctl.struct).load(answer)
    sizes = {name: answering.uapi.sizeof(answering.ioctl.struct, name) for name in names}
    assert [name for name in names if struct[name] == int("ee" * sizes[name], 16)] == []


@rule("generic.failure_writes_nothing")
def test_failure_writes_nothing(first_id_field):
    wrong = next(first_id_field.with_numbers([UNKNOWN]))
    with pytest.raises(IoctlError) as caught:
        first_id_field.valid.call(wrong)
    assert caught.value.after == wrong


@diverging("failure_writes_nothing")
def test_failure_is_answered(expected, divergence):
    with expected:
        divergence.valid.call(next(divergence.with_numbers([UNKNOWN])))
    assert expected.error
    assert expected.error.struct
    assert expected.error.struct.entry_num == 0
