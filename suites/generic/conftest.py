# SPDX-License-Identifier: GPL-2.0-only
"""Commands and fields as parameters, read from headers; and calls made of raw bytes."""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_iommufd import absent
from pytest_iommufd.hwpt_types.registry import headers
from pytest_iommufd.rules.marker import rule, rule_of, some
from pytest_iommufd.uapi import Uapi
from pytest_iommufd.uapi.absence import why_absent
from pytest_iommufd.uapi.spare import spare_flags
from pytest_iommufd.uapi.undescribed import is_described

from .raw import Raw
from .samples import NO_OBJECTS, SAMPLES, Objects, find

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pytest_iommufd.iommufd import Buffer, Context
    from pytest_iommufd.lab import Bench

    from .samples import Call, Sample

# Structs whose first version is in none of our headers, by its last field.
FIRST_VERSION = {
    "IOMMU_GET_HW_INFO": "__reserved",
    "IOMMU_HWPT_ALLOC": "__reserved",
    "IOMMU_TEST_CMD": "last",
    "IOMMU_VEVENTQ_ALLOC": "out_veventq_fd",
    "IOMMU_VIOMMU_ALLOC": "out_viommu_id",
}
PAGE = 4096
ABOVE = 20  # more objects than a test has in its context


# ---- what the headers have, at collection ----


@dataclass(frozen=True)
class Divergence:
    """A row of divergences.toml."""

    name: str
    rule: str
    sample: str
    field: str
    why: str
    but: str = ""

    def is_of(self, slug: str, sample: str, field: str) -> bool:
        """Tell whether it is about a rule, a sample and a field, with all its values."""
        return (
            not self.but
            and slug == f"generic.{self.rule}"
            and self.sample in (sample, sample.partition(":")[0])
            and field == self.field
        )


DIVERGENCES = [
    Divergence(name, **row)
    for name, row in tomllib.loads(
        Path(__file__).with_name("divergences.toml").read_text("utf-8")
    ).items()
]


def diverging(rule_name: str) -> pytest.MarkDecorator:
    """Give a test, as `divergence`, each row of divergences.toml of a rule; and the row's rule."""
    rows = [
        pytest.param(row, id=row.name, marks=rule(f"generic.divergence.{row.name}"))
        for row in DIVERGENCES
        if row.rule == rule_name
    ]
    return pytest.mark.parametrize("divergence", some(rows), indirect=True)


def _headers(config: pytest.Config) -> list[Uapi]:
    """Return all descriptions: those of the kernels that are built, and the shipped ones."""
    return list(headers(config).values())


def _fields(headers: Iterable[Uapi], command: str) -> list[str]:
    """Return the fields of a command's struct in all headers together."""
    found: dict[str, None] = {}
    for uapi in headers:
        if uapi.has(command) and uapi.ioctl(command).struct:
            found |= dict.fromkeys(uapi.fields(uapi.ioctl(command).struct))
    return list(found)


@functools.cache
def is_new_field(command: str, field: str) -> bool:
    """Tell whether the struct of a known command has a field in no shipped header.

    A valid call leaves it 0. When the kernel looks at it, and if it writes it, nobody has said.
    """
    structs = {uapi.ioctl(command).struct for uapi in Uapi.shipped() if uapi.has(command)}
    return bool(structs) and not any(is_described(f"{struct}.{field}") for struct in structs)


def _is_reserved(sample: Sample, field: str) -> bool:
    # of what the first sample of a command has; the others have the same fields
    first = next(known for known in SAMPLES.values() if known.command == sample.command)
    return field.startswith("__reserved") and sample is first


def _is_id(sample: Sample, field: str) -> bool:
    if field in NO_OBJECTS or field in sample.ignores or is_new_field(sample.command, field):
        return False
    return field == "id" or (field.endswith("_id") and not field.startswith("out_"))


def _is_first_id(sample: Sample, field: str, fields: list[str]) -> bool:
    return field == next((name for name in fields if _is_id(sample, name)), "")


def _is_typed_id(sample: Sample, field: str, _: list[str]) -> bool:
    return _is_id(sample, field) and bool(sample.right_kinds(field))


# Fixtures that are a field with a valid call, and which fields of which samples they are.
PAIRS: dict[str, Callable[[Sample, str, list[str]], bool]] = {
    "reserved_field": lambda sample, field, _: _is_reserved(sample, field),
    "flags_field": lambda _sample, field, _: field == "flags",
    "id_field": lambda sample, field, _: _is_id(sample, field),
    "typed_id_field": _is_typed_id,
    "first_id_field": _is_first_id,
}
# Fixtures that are a valid call, and of which samples.
CHOICES: dict[str, Callable[[Sample, list[str]], bool]] = {
    "sample": lambda _sample, _fields: True,
    "old_sample": lambda sample, _fields: sample.in_first_version,
    "creating": lambda sample, fields: _creates(fields) and not sample.changes,
    "changing": lambda sample, _fields: sample.changes,
    "asking": lambda sample, fields: (
        not sample.changes and not _creates(fields) and _answers(sample, fields)
    ),
    "silent": lambda sample, fields: not sample.changes and not _answers(sample, fields),
    "answering": lambda _sample, fields: _has_out(fields),
}


def _has_out(fields: list[str]) -> bool:
    return any(field.startswith("out_") for field in fields)


def _creates(fields: list[str]) -> bool:
    # the mock devices are made by a command whose fields have no such names
    return "mock_domain" in fields or any(
        field.startswith("out_") and field.endswith("_id") for field in fields
    )


def _answers(sample: Sample, fields: list[str]) -> bool:
    return bool(sample.answers) or _has_out(fields)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give tests each command, or each command and field, of all headers."""
    headers = _headers(metafunc.config)
    commands = list(dict.fromkeys(ioctl.name for uapi in headers for ioctl in uapi.ioctls))
    samples = find(commands)
    if "command" in metafunc.fixturenames:
        metafunc.parametrize("command", some(commands), indirect=True)
    for fixture, chosen in CHOICES.items():
        if fixture in metafunc.fixturenames:
            fitting = [s for s in samples if chosen(s, _fields(headers, s.command))]
            names = [known.name for known in fitting]
            metafunc.parametrize(fixture, some(fitting), ids=names, indirect=True)
    for fixture, belongs in PAIRS.items():
        if fixture in metafunc.fixturenames:
            slug = rule_of(metafunc.definition)
            pairs = [
                (known, name)
                for known in samples
                for fields in [_fields(headers, known.command)]
                for name in fields
                if belongs(known, name, fields)
                and not any(row.is_of(slug, known.name, name) for row in DIVERGENCES)
            ]
            ids = [f"{known.name}-{name}" for known, name in pairs]
            metafunc.parametrize(fixture, some(pairs), ids=ids, indirect=True)


# ---- requests ----


@pytest.fixture
def requests(bench: Bench, uapi: Uapi) -> list[int]:
    """The numbers of all commands that the kernel has."""
    return [ioctl.number for ioctl in uapi.ioctls if bench.answers(ioctl.name)]


# ---- valid calls ----


class Valid(Raw):
    """A call that the kernel accepts, to be called as it is or with something changed.

    Attributes:
        sample: what it was made from.
        objects: the objects of the context.
        content: the struct's bytes.
    """

    def __init__(self, raw: Raw, sample: Sample, objects: Objects) -> None:
        super().__init__(raw.context, raw.ioctl, raw.make_page)
        self.sample = sample
        self.objects = objects
        self._call: Call = sample.make(objects)
        self.content = self.with_fields()

    @property
    def uapi(self) -> Uapi:
        """The kernel's structs."""
        return self.context.uapi

    def with_fields(self, **changed: Any) -> bytes:
        """Return the struct's bytes with some fields changed."""
        fields = {
            name: value if isinstance(value, dict | list) else value.__index__()
            for name, value in ({"size": self.sizeof} | self._call.fields | changed).items()
        }
        return bytes(self.uapi.struct(self.ioctl.struct, **fields))

    def with_size(self, size: int) -> bytes:
        """Return the struct's bytes cut or with zeroes after them, and so many as it says."""
        content = size.to_bytes(4, "little") + self.content[4:]
        return content[:size].ljust(size, b"\0")

    def with_bits(self, field: str, bits: Iterable[int]) -> Iterator[bytes]:
        """Return the struct's bytes with one bit of a field changed, for each bit."""
        first = 8 * self.uapi.offsetof(self.ioctl.struct, field)
        for bit in bits:
            number = int.from_bytes(self.content, "little") ^ 1 << (first + bit)
            yield number.to_bytes(len(self.content), "little")

    def bits(self, field: str) -> int:
        """Return how many bits a field has."""
        return 8 * self.uapi.sizeof(self.ioctl.struct, field)

    def took_effect(self) -> bool:
        """Tell whether the kernel did what was asked."""
        return self._call.took_effect()

    def answers(self) -> list[str]:
        """Return the names of the fields that the kernel writes."""
        return [
            name
            for name in self.uapi.fields(self.ioctl.struct)
            if name.startswith("out_") or name in self.sample.answers or self.is_new(name)
        ]

    def is_new(self, field: str) -> bool:
        """Tell whether a field is not yet described; the kernel may write it, or not."""
        return is_new_field(self.ioctl.name, field)

    def without_answers(self, content: bytes) -> bytes:
        """Return a struct's bytes with those of the kernel's answers as they were."""
        kept = bytearray(content)
        for name in self.answers():
            first = self.uapi.offsetof(self.ioctl.struct, name)
            part = slice(first, first + self.uapi.sizeof(self.ioctl.struct, name))
            kept[part] = self.content[part][: len(kept[part])]
        return bytes(kept)

    def renew(self, answer: bytes) -> None:
        """Destroy what a call has made, and make a new call that is valid."""
        struct = self.uapi.struct(self.ioctl.struct).load(answer)
        made = [
            name
            for name in self.uapi.fields(self.ioctl.struct)
            if name.startswith("out_") and (struct[name] or not self.is_new(name))
        ]
        for name in made:
            if name.endswith("_fd"):
                self.context.process.checked("close", struct[name])
        for name in made:
            if name.endswith("_id"):
                self.context.destroy(struct[name])
        self._call = self.sample.make(self.objects)
        self.content = self.with_fields()


@dataclass(frozen=True)
class FieldOf:
    """A field of a valid call.

    Attributes:
        valid: the call.
        name: the field.
        but: the one value of it that diverges, or "".
    """

    valid: Valid
    name: str
    but: str = ""

    def with_bits(self, bits: Iterable[int]) -> Iterator[bytes]:
        """Return the struct's bytes with one bit of the field changed, for each bit."""
        return self.valid.with_bits(self.name, bits)

    def unused_bits(self) -> list[int]:
        """Return the bits of the field that no name of the header has."""
        uapi = self.valid.uapi
        diverging = {
            getattr(uapi, row.but)
            for row in DIVERGENCES
            if row.but and row.sample == self.valid.ioctl.name and row.field == self.name
        }
        spare = spare_flags(uapi, f"{self.valid.ioctl.struct}.{self.name}")
        return [flag.bit_length() - 1 for flag in spare if flag not in diverging]

    def with_numbers(self, numbers: Iterable[int]) -> Iterator[bytes]:
        """Return the struct's bytes with the field set to each number."""
        return (self.valid.with_fields(**{self.name: number}) for number in numbers)

    def with_kinds(self, objects: Objects, *, right: bool) -> Iterator[bytes]:
        """Return the struct's bytes with the field set to objects of kinds it takes, or not."""
        takes = self.valid.sample.right_kinds(self.name) or ("ioas",)
        kinds = [kind for kind in objects.kinds() if (kind in takes) == right]
        return self.with_numbers(getattr(objects, kind).__index__() for kind in kinds)


@pytest.fixture
def make_objects(bench: Bench, buffers: Callable[..., Buffer]) -> Callable[[Context], Objects]:
    """Makes the objects of a context."""
    return lambda context: Objects(context, functools.partial(buffers, PAGE), bench.answers)


@pytest.fixture
def objects(iommufd: Context, make_objects: Callable[[Context], Objects]) -> Objects:
    """Objects of each kind."""
    return make_objects(iommufd)


@pytest.fixture
def make_raw(
    bench: Bench, iommufd: Context, request: pytest.FixtureRequest
) -> Callable[[str], Raw]:
    """Makes a Raw of a command; absent where the kernel lacks it."""

    def page() -> Buffer:
        found: Buffer = request.getfixturevalue("page_before_hole")
        return found

    def make(command: str) -> Raw:
        uapi = iommufd.uapi
        if why := why_absent(uapi, command):
            absent(why)
        if not bench.answers(command):
            absent(f"the kernel has no {command} (ENOTTY)")
        if not uapi.ioctl(command).struct:
            absent(f"{command} is not yet described: no struct of the header has its name")
        return Raw(iommufd, uapi.ioctl(command), page)

    return make


@pytest.fixture
def command(make_raw: Callable[[str], Raw], request: pytest.FixtureRequest) -> Raw:
    """Each command of the headers, to be called with anything."""
    return make_raw(request.param)


@pytest.fixture
def make_valid(make_raw: Callable[[str], Raw], objects: Objects) -> Callable[[Sample], Valid]:
    """Makes a valid call; absent where the kernel lacks the command."""
    return lambda sample: Valid(make_raw(sample.command), sample, objects)


@pytest.fixture
def make_field(make_valid: Callable[[Sample], Valid]) -> Callable[..., FieldOf]:
    """Makes a field of a valid call; absent where the kernel lacks the command or the field."""

    def make(sample: Sample, name: str, but: str = "") -> FieldOf:
        valid = make_valid(sample)
        if not valid.uapi.has(f"{valid.ioctl.struct}.{name}"):
            absent(f"{valid.ioctl.struct} of the kernel's header has no {name}")
        return FieldOf(valid, name, but)

    return make


# These fixtures are parameters: see CHOICES and PAIRS.


@pytest.fixture
def sample(make_valid: Callable[[Sample], Valid], request: pytest.FixtureRequest) -> Valid:
    """Each valid call."""
    return make_valid(request.param)


@pytest.fixture
def old_sample(make_valid: Callable[[Sample], Valid], request: pytest.FixtureRequest) -> Valid:
    """Each valid call that the struct's first version suffices for."""
    return make_valid(request.param)


@pytest.fixture
def creating(make_valid: Callable[[Sample], Valid], request: pytest.FixtureRequest) -> Valid:
    """Each valid call that makes objects."""
    return make_valid(request.param)


@pytest.fixture
def changing(make_valid: Callable[[Sample], Valid], request: pytest.FixtureRequest) -> Valid:
    """Each valid call that changes something."""
    return make_valid(request.param)


@pytest.fixture
def asking(make_valid: Callable[[Sample], Valid], request: pytest.FixtureRequest) -> Valid:
    """Each valid call that only asks."""
    return make_valid(request.param)


@pytest.fixture
def silent(make_valid: Callable[[Sample], Valid], request: pytest.FixtureRequest) -> Valid:
    """Each valid call without an answer."""
    return make_valid(request.param)


@pytest.fixture
def answering(make_valid: Callable[[Sample], Valid], request: pytest.FixtureRequest) -> Valid:
    """Each valid call with fields for answers."""
    return make_valid(request.param)


@pytest.fixture
def reserved_field(make_field: Callable[..., FieldOf], request: pytest.FixtureRequest) -> FieldOf:
    """Each reserved field."""
    return make_field(*request.param)


@pytest.fixture
def flags_field(make_field: Callable[..., FieldOf], request: pytest.FixtureRequest) -> FieldOf:
    """Each field of flags."""
    return make_field(*request.param)


@pytest.fixture
def id_field(make_field: Callable[..., FieldOf], request: pytest.FixtureRequest) -> FieldOf:
    """Each field that names an object."""
    return make_field(*request.param)


@pytest.fixture
def typed_id_field(make_field: Callable[..., FieldOf], request: pytest.FixtureRequest) -> FieldOf:
    """Each field that names an object of certain kinds."""
    return make_field(*request.param)


@pytest.fixture
def first_id_field(make_field: Callable[..., FieldOf], request: pytest.FixtureRequest) -> FieldOf:
    """The first field of each call that names an object."""
    return make_field(*request.param)


@pytest.fixture
def divergence(make_field: Callable[..., FieldOf], request: pytest.FixtureRequest) -> FieldOf:
    """The field of a row of divergences.toml; see diverging()."""
    row: Divergence = request.param
    return make_field(find([row.sample])[0], row.field, row.but)


@pytest.fixture
def first_version(request: pytest.FixtureRequest, uapi: Uapi) -> Callable[[Raw], int]:
    """Tells the size of the first version of a command's struct."""

    def size(command: Raw) -> int:
        name, struct = command.ioctl.name, command.ioctl.struct
        if name in FIRST_VERSION:
            last = FIRST_VERSION[name]
            return uapi.offsetof(struct, last) + uapi.sizeof(struct, last)
        if not is_described(name):
            return command.least_size()  # only the kernel knows
        headers = [uapi, *_headers(request.config)]
        return min(other.sizeof(struct) for other in headers if other.has(struct))

    return size


@pytest.fixture
def other_objects(other_iommufd: Context, make_objects: Callable[[Context], Objects]) -> Objects:
    """Objects of another context, with ids above those of the first."""
    with other_iommufd.sending(repeat=ABOVE):
        other_iommufd.ioas_alloc()
    return make_objects(other_iommufd)
