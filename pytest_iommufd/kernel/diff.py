# SPDX-License-Identifier: GPL-2.0-only
"""What differs between two kernels."""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_iommufd.kernel.spec import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pytest_iommufd.kernel.model import Kernel

_SOURCES = ("drivers/iommu/iommufd", "include/uapi/linux/iommufd.h")
# iommufd stands in for a type1 container; no more of VFIO is its business.
_VFIO = re.compile(r"_*VFIO_(?!IOMMU|TYPE1)")
_SORTED = ("ioctl", "constant", "struct")
_OPTION = re.compile(r"(CONFIG_\w+)=(.*)")


@dataclass(frozen=True)
class Section:
    """One aspect of two kernels.

    Attributes:
        title: what it is.
        lines: what differs, `-` of the first kernel and `+` of the second, or why that is not
            known.
        differs: whether anything does, as far as it is known.
    """

    title: str
    lines: tuple[str, ...]
    differs: bool


def compare(old: Kernel, new: Kernel, *, patch: bool = False) -> list[Section]:
    """Compare two kernels.

    Args:
        old: a kernel.
        new: another.
        patch: whether to list the differences of source files line by line.

    Returns:
        What differs, and what is not known; nothing about what is the same.
    """
    aspects: tuple[tuple[str, Callable[[Kernel], Mapping[str, str] | None]], ...] = (
        ("kernel", _origin),
        ("patches", _patches),
        (".config", _config),
        ("uAPI", _uapi),
    )
    sections = [_section(title, old, new, read) for title, read in aspects]
    sections.append(_source(old, new, patch=patch))
    return [section for section in sections if section.lines]


def _section(
    title: str, old: Kernel, new: Kernel, read: Callable[[Kernel], Mapping[str, str] | None]
) -> Section:
    before, after = read(old), read(new)
    if before is None or after is None:
        return _unknown(title, old if before is None else new)
    lines = []
    for name in sorted(dict.fromkeys((*before, *after)), key=_place):
        values = (
            (sign, side[name]) for sign, side in (("-", before), ("+", after)) if name in side
        )
        if before.get(name) != after.get(name):
            lines += [f"{sign} {name}{value and f' {value}'}" for sign, value in values]
    return Section(title, tuple(lines), bool(lines))


def _place(name: str) -> str:
    """Sorts structs and constants of both kernels together; what is within a struct stays there."""
    kind, _, rest = name.partition(" ")
    return f"{kind} {rest.partition('.')[0]}" if kind in _SORTED else ""


def _unknown(title: str, kernel: Kernel) -> Section:
    return Section(title, (f"not known of {kernel.name}: it was not built here",), differs=False)


def _origin(kernel: Kernel) -> dict[str, str]:
    return {"release": kernel.release or "not known", "source": kernel.source}


def _patches(kernel: Kernel) -> dict[str, str]:
    return {
        f"{series.name}: {patch.subject}": ""
        for series in parse(kernel.spec).series
        for patch in series.patches
    }


def _config(kernel: Kernel) -> dict[str, str] | None:
    if not kernel.build:
        return None
    lines = (kernel.build / ".config").read_text("utf-8").splitlines()
    found = (_OPTION.fullmatch(line) for line in lines)
    return {match[1]: f"= {match[2]}" for match in found if match}


def _uapi(kernel: Kernel) -> dict[str, str] | None:
    from pytest_iommufd.uapi import Uapi  # noqa: PLC0415 - cffi is slow to import

    if not kernel.uapi:
        return None
    uapi = Uapi.load(kernel.uapi)
    found = {}
    for ioctl in uapi.ioctls:
        about = f" with struct {ioctl.struct}" if ioctl.struct else ""
        found[f"ioctl {ioctl.name}"] = f"= {ioctl.number:#x}{about}"
    told = json.loads(kernel.uapi.read_bytes())
    for names in (*told["enums"].values(), told["constants"]):
        constants = {name: value for name, value in names.items() if not _VFIO.match(name)}
        found |= {f"constant {name}": f"= {value:#x}" for name, value in constants.items()}
    for name, number in uapi.layout().items():
        struct, _, field = name.partition(".")
        size = uapi.sizeof(struct, field)
        found[f"struct {name}"] = f"at {number}, {size} bytes" if field else f"of {number} bytes"
    return found


def _source(old: Kernel, new: Kernel, *, patch: bool) -> Section:
    title = f"source ({', '.join(_SOURCES)})"
    for kernel in (old, new):
        if not (kernel.tree and kernel.tree.is_dir()):
            return _unknown(title, kernel)
    before, after = _files(old), _files(new)
    stat: list[str] = []
    text: list[str] = []
    for name in sorted(before.keys() | after.keys()):
        one, two = (_lines(side[name]) if name in side else [] for side in (before, after))
        if one == two:
            continue
        names = (
            f"a/{name}" if name in before else "/dev/null",
            f"b/{name}" if name in after else "/dev/null",
        )
        hunks = list(difflib.unified_diff(one, two, *names, lineterm=""))
        signs = [line[:1] for line in hunks[2:]]
        stat.append(f"{name} | +{signs.count('+')} -{signs.count('-')}")
        text += hunks
    return Section(title, tuple(text if patch else stat), bool(stat))


def _files(kernel: Kernel) -> dict[str, Path]:
    if not kernel.tree:
        return {}
    tops = [kernel.tree / name for name in _SOURCES]
    paths = (path for top in tops for path in (top, *top.rglob("*")) if path.is_file())
    return {str(path.relative_to(kernel.tree)): path for path in paths}


def _lines(path: Path) -> list[str]:
    return path.read_text("utf-8", errors="replace").splitlines()
