# SPDX-License-Identifier: GPL-2.0-only
"""Finished kernels in the cache: what each was made from, and finding one by that."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_iommufd.host.files import write_whole
from pytest_iommufd.kernel.cache.store import PARTIAL
from pytest_iommufd.kernel.model import Kernel
from pytest_iommufd.kernel.source.identity import digest

if TYPE_CHECKING:
    from pytest_iommufd.kernel.cache.store import Cache

_RECORD = "kernel.json"


@dataclass(frozen=True)
class Record:
    """What is remembered of a finished kernel; paths are relative to its folder.

    Attributes:
        name: its name in test ids.
        release: `uname -r` of it.
        source: where it came from, for people.
        tree: its source tree, absolute.
        image: the bzImage.
        modules: .ko files in the order to load them.
        uapi: description of its uAPI.
        describer: hash of the code that wrote that description.
        built: when, seconds since 1970.
        inputs: all that went in, by name; their hash is the entry's key.
        configuration: what is to be said of the user's configuration, empty without.
    """

    name: str
    release: str
    source: str
    tree: str
    image: str
    modules: list[str]
    uapi: str
    describer: str
    built: float
    inputs: dict[str, str] = field(default_factory=dict)
    configuration: str = ""

    @property
    def described(self) -> str:
        """Where it came from and how it was configured, for people."""
        return self.source + self.configuration

    def write(self, entry: Path) -> None:
        """Keep it in the entry's folder.

        Args:
            entry: the folder.

        Raises:
            OSError: it cannot be written.
        """
        values = asdict(self)
        if not self.configuration:  # which versions before it was there can read
            del values["configuration"]
        write_whole(entry / _RECORD, json.dumps(values, indent=1))


def path_of(cache: Cache, name: str, inputs: dict[str, str]) -> Path:
    """The folder that a kernel has or would have.

    Args:
        cache: the cache.
        name: the kernel's name.
        inputs: all that goes in.

    Returns:
        An entry, which may not exist.
    """
    key = digest(json.dumps(inputs, sort_keys=True))[:12]
    return cache.kernels / f"{name}-{key}"


def read(entry: Path) -> Record | None:
    """What is remembered of an entry.

    Args:
        entry: its folder.

    Returns:
        The record, None when the folder has none that this version understands.
    """
    try:
        values: Any = json.loads((entry / _RECORD).read_text("utf-8"))
        return Record(**values)
    except (OSError, ValueError, TypeError):
        return None


def find(cache: Cache, name: str, inputs: dict[str, str]) -> list[Path]:
    """Find kernels by name and by some of what went in.

    Args:
        cache: where to look.
        name: the kernel's name; empty for any.
        inputs: what must have gone in, empty what must not; inputs not named may be anything.

    Returns:
        Entries, the newest first.
    """
    return find_in(cache.kernels, name, inputs)


def find_in(folder: Path, name: str, inputs: dict[str, str]) -> list[Path]:
    """Find kernels in a folder of the cache; the other arguments and the result are `find`'s."""
    found = []
    for entry in folder.glob(f"{name or '*'}-*"):
        record = None if entry.suffix == PARTIAL else read(entry)
        if not record or name not in ("", record.name):
            continue
        if all(record.inputs.get(key, "") == value for key, value in inputs.items()):
            found.append((record.built, entry))
    return [entry for _, entry in sorted(found, reverse=True)]


def load(cache: Cache, entry: Path, record: Record, spec: str) -> Kernel:
    """Make a kernel of an entry.

    Args:
        cache: its cache.
        entry: its folder.
        record: what is remembered of it.
        spec: how it was asked for.

    Returns:
        The kernel.
    """
    return Kernel(
        spec=spec,
        name=record.name,
        release=record.release,
        source=record.described,
        image=entry / record.image,
        modules=tuple(entry / module for module in record.modules),
        uapi=entry / record.uapi,
        log=cache.log(entry),
        build=entry / "build",
        tree=Path(record.tree),
    )
