# SPDX-License-Identifier: GPL-2.0-only
"""Fields that are known by their names: reserved ones, flags, ids of objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_iommufd import absent, rule

from .conftest import Valid, diverging
from .samples import find

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import FieldOf

NO_OBJECT = (0, 9999, 0x8000_0001, 0xFFFF_FFFF)


def some_bits(field: FieldOf) -> Iterator[bytes]:
    """Return the call with one bit of the field set: of each byte the lowest and the highest."""
    bits = range(field.valid.bits(field.name))
    return field.with_bits(bit for bit in bits if bit % 8 in {0, 7})


@rule("generic.valid_call")
def test_valid_call(expected, command, objects):
    name = command.ioctl.name
    samples = find([name])
    if not samples:
        absent(f"{name} is not yet described: suites/generic/samples.py has no valid call of it")
    for sample in samples:
        valid = Valid(command, sample, objects)
        with expected:
            valid.call(valid.content)


@rule("generic.reserved_field")
def test_reserved_field(expected, reserved_field):
    expected.check(*reserved_field.valid.calls(some_bits(reserved_field)))


@rule("generic.unknown_flag")
def test_flag_without_a_name(expected, flags_field):
    expected.check(*flags_field.valid.calls(flags_field.with_bits(flags_field.unused_bits())))


@rule("generic.unknown_id")
def test_id_of_no_object(expected, id_field):
    expected.check(*id_field.valid.calls(id_field.with_numbers(NO_OBJECT)))


@rule("generic.wrong_kind")
def test_id_of_another_kind(expected, typed_id_field, objects):
    expected.check(*typed_id_field.valid.calls(typed_id_field.with_kinds(objects, right=False)))


@rule("generic.other_context")
def test_id_of_another_context(expected, id_field, other_objects):
    expected.check(*id_field.valid.calls(id_field.with_kinds(other_objects, right=True)))


# ---- where a command differs ----


@diverging("reserved_field")
def test_diverging_reserved_field(expected, divergence):
    for content in some_bits(divergence):
        with expected:
            answer = divergence.valid.call(content)
        if expected.error is None:
            divergence.valid.renew(answer)


@diverging("unknown_id")
def test_diverging_id_of_no_object(expected, divergence):
    expected.check(*divergence.valid.calls(divergence.with_numbers(NO_OBJECT)))


@diverging("wrong_kind")
def test_diverging_id_of_another_kind(expected, divergence, objects):
    expected.check(*divergence.valid.calls(divergence.with_kinds(objects, right=False)))


@diverging("other_context")
def test_diverging_id_of_another_context(expected, divergence, other_objects):
    expected.check(*divergence.valid.calls(divergence.with_kinds(other_objects, right=True)))


@diverging("unknown_flag")
def test_diverging_flag(expected, divergence):
    flag = getattr(divergence.valid.uapi, divergence.but)
    expected.check(*divergence.valid.calls(divergence.with_bits([flag.bit_length() - 1])))
