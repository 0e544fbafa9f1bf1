# SPDX-License-Identifier: GPL-2.0-only
"""The struct's size: too short, of an older program, and of a newer one."""

from __future__ import annotations

import itertools

from pytest_iommufd import rule

ALL_ONES = 0xFFFF_FFFF


@rule("generic.size.zero")
def test_size_of_zero(expected, command):
    with expected:
        command.call(command.of_size(0))


@rule("generic.size.below_minimum")
def test_size_below_the_least(expected, command, first_version):
    least = first_version(command)
    sizes = itertools.product({1, 4, least - 4, least - 1}, [0, 0xFF])
    expected.check(*command.calls(itertools.starmap(command.of_size, sizes)))


@rule("generic.size.minimum")
def test_least_size_is_that_of_the_first_version(command, first_version):
    assert command.least_size() == first_version(command)


@rule("generic.size.first_version")
def test_size_of_older_programs(expected, old_sample, first_version):
    for size in range(first_version(old_sample), old_sample.sizeof + 1):
        with expected:
            answer = old_sample.call(old_sample.with_size(size))
        old_sample.renew(answer)


@rule("generic.size.tail_zero")
def test_tail_of_zeroes(expected, sample):
    for extra in (1, 12000):
        with expected:
            answer = sample.call(sample.with_size(sample.sizeof + extra))
        sample.renew(answer)


@rule("generic.size.tail_nonzero")
def test_tail_with_a_bit_set(expected, command):
    contents = []
    for size in (command.sizeof + extra for extra in (1, 8, 4096, 12000)):
        content = command.of_size(size)
        contents += [
            content[:place] + b"\x80" + content[place + 1 :] for place in {command.sizeof, size - 1}
        ]
    expected.check(*command.calls(contents))


@rule("generic.size.tail_unreadable")
def test_tail_cannot_be_read(expected, command):
    fields = bytes(command.sizeof - 4)
    sizes = (command.sizeof + 1, command.sizeof + 4096, ALL_ONES)
    contents = (size.to_bytes(4, "little") + fields for size in sizes)
    expected.check(*command.calls(contents, at_end=True))


@rule("generic.size.tail_nonzero_before_unreadable")
def test_tail_with_a_bit_set_before_what_cannot_be_read(expected, command):
    rest = bytes(command.sizeof - 4) + b"\1" * 16
    sizes = (command.sizeof + 64, ALL_ONES)
    contents = (size.to_bytes(4, "little") + rest for size in sizes)
    expected.check(*command.calls(contents, at_end=True))
