# SPDX-License-Identifier: GPL-2.0-only
"""The struct's size: too short, of an older program, and of a newer one."""

from __future__ import annotations

import itertools
from errno import EFAULT, EINVAL
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import raises_errno, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.rules.expectation import Expectation

    from .conftest import Raw, Valid

ALL_ONES = 0xFFFF_FFFF


def least_size(command: Raw) -> int:
    """Return the least size that the kernel does not refuse; what follows it cannot be read."""
    for size in range(command.sizeof + 1):
        with raises_errno(EINVAL, EFAULT) as caught:
            command.call_at_end(size.to_bytes(4, "little"))
        if caught[0].errno == EFAULT:
            return size
    pytest.fail(f"no size up to {command.sizeof} was taken")


@rule("generic.size.zero")
def test_size_of_zero(expected: Expectation, command: Raw) -> None:
    with expected:
        command.call(command.of_size(0))


@rule("generic.size.below_minimum")
def test_size_below_the_least(
    expected: Expectation, command: Raw, first_version: Callable[[Raw], int]
) -> None:
    least = first_version(command)
    for size, filler in itertools.product({1, 4, least - 4, least - 1}, [0, 0xFF]):
        with expected:
            command.call(command.of_size(size, filler))


@rule("generic.size.minimum")
def test_least_size_is_that_of_the_first_version(
    command: Raw, first_version: Callable[[Raw], int]
) -> None:
    assert least_size(command) == first_version(command)


@rule("generic.size.first_version")
def test_size_of_older_programs(
    expected: Expectation, old_sample: Valid, first_version: Callable[[Raw], int]
) -> None:
    for size in range(first_version(old_sample), old_sample.sizeof + 1):
        with expected:
            answer = old_sample.call(old_sample.with_size(size))
        old_sample.renew(answer)


@rule("generic.size.tail_zero")
def test_tail_of_zeroes(expected: Expectation, sample: Valid) -> None:
    for extra in (1, 7, 8, 4096, 12000):
        with expected:
            answer = sample.call(sample.with_size(sample.sizeof + extra))
        sample.renew(answer)


@rule("generic.size.tail_nonzero")
def test_tail_with_a_bit_set(expected: Expectation, command: Raw) -> None:
    for size in (command.sizeof + extra for extra in (1, 8, 4096, 12000)):
        content = command.of_size(size)
        for place in (command.sizeof, size - 1):
            with expected:
                command.call(content[:place] + b"\x80" + content[place + 1 :])


@rule("generic.size.tail_unreadable")
def test_tail_cannot_be_read(expected: Expectation, command: Raw) -> None:
    for size in (command.sizeof + 1, command.sizeof + 4096, ALL_ONES):
        with expected:
            command.call_at_end(size.to_bytes(4, "little") + bytes(command.sizeof - 4))


@rule("generic.size.tail_nonzero_before_unreadable")
def test_tail_with_a_bit_set_before_what_cannot_be_read(
    expected: Expectation, command: Raw
) -> None:
    fields = bytes(command.sizeof - 4)
    for size in (command.sizeof + 64, ALL_ONES):
        with expected:
            command.call_at_end(size.to_bytes(4, "little") + fields + b"\1" * 16)
