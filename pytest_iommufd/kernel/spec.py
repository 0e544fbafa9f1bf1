# SPDX-License-Identifier: GPL-2.0-only
"""Kernel specs, as given to `--kernel`."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pytest_iommufd.errors import Problem
from pytest_iommufd.kernel.cache import entries
from pytest_iommufd.kernel.series import patchseries
from pytest_iommufd.kernel.source import revision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_iommufd.kernel.build.own import Own

FORMS = (
    "running (this machine's kernel), a kernel image, a source tree, "
    "TREE@REV (a tag, branch or commit of a git checkout), "
    "X.Y (Debian source package linux-source-X.Y), X.Y.Z (that release of kernel.org), or the "
    "folder of a kernel built here before; +SERIES after a tree, TREE@REV or X.Y applies a patch "
    "series"
)

DEFAULT_KERNEL = "6.12"
"""The spec when none is given."""

_VERSION = re.compile(r"(?P<version>\d+\.\d+(?:\.\d+)?)(?:\+(?P<series>.*))?")
_PATCHABLE = (
    "a source tree, TREE@REV or X.Y in front of the series: a patched kernel has to be built"
)
_BUILT_HERE = "a source tree, TREE@REV or X.Y: their kernels are configured and built"
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._+-]")
# The x86 boot protocol's signature and where it is (Documentation/arch/x86/boot.rst).
_MAGIC, _MAGIC_AT = b"HdrS", 0x202


@dataclass(frozen=True)
class Spec:
    """A parsed kernel spec.

    Attributes:
        text: what the user wrote.
        kind: what it names.
        name: its name in test ids.
        path: absolute path of an image, a tree, a git checkout or a folder of the cache, else None.
        commit: hash of a commit of the checkout, else empty.
        version: `X.Y` or `X.Y.Z` of a source package, else empty.
        series: patch series to apply, in order.
        base: the spec of what they are applied to; None without series.
        own: the user's configuration, if there is one.
    """

    text: str
    kind: Literal["running", "image", "tree", "commit", "package", "built"]
    name: str
    path: Path | None = None
    commit: str = ""
    version: str = ""
    series: tuple[patchseries.Series, ...] = ()
    base: Spec | None = None
    own: Own | None = None


def parse(text: str, configs: Sequence[Path] = ()) -> Spec:
    """Tell what a spec names.

    Args:
        text: `running`, a path to an image or to a tree, `TREE@REV`, `X.Y` or `X.Y.Z`; `+SERIES`
            may follow.
        configs: files of the user's configuration.

    Returns:
        The spec. Paths in it are absolute and exist.

    Raises:
        Problem: the text is no spec, names nothing that exists, or names something unusable; or the
            configuration is of no use.
    """
    spec = _parse(text)
    if not configs:
        return spec
    from pytest_iommufd.kernel.build.own import read  # noqa: PLC0415 - mostly not needed

    if spec.kind in {"running", "image", "built"}:
        raise Problem(
            f"a configuration is given, and kernel {text} is not built here",
            expected=_BUILT_HERE,
            mend="give no configuration, or the source tree of that kernel",
        )
    own = read(configs)
    base = dataclasses.replace(spec.base, own=own) if spec.base else None
    return dataclasses.replace(spec, own=own, base=base)


def _parse(text: str) -> Spec:
    if text == "running":
        return Spec(text, "running", "running")
    if text.startswith("running+"):
        raise Problem("patch series cannot be applied to the running kernel", expected=_PATCHABLE)
    if match := _VERSION.fullmatch(text):
        version = match["version"]
        return _patched(Spec(version, "package", version, version=version), text, match["series"])
    return _path(text)


def _patched(base: Spec, text: str, series: str | None) -> Spec:
    if series is None:
        return base
    if base.kind in {"image", "built"}:
        what = "an image" if base.kind == "image" else "a kernel that is built"
        raise Problem(f"patch series cannot be applied to {what}: {text}", expected=_PATCHABLE)
    found = tuple(patchseries.find(one, base.path) for one in patchseries.split(series))
    return dataclasses.replace(
        base,
        text=text,
        name="+".join((base.name, *(one.name for one in found))),
        series=found,
        base=base,
    )


def _path(text: str) -> Spec:
    # "+" and "@" may be part of a file name: the longest prefix that exists is the path.
    ends = [len(text), *(at for at in range(len(text) - 1, 0, -1) if text[at] in "+@")]
    for end in ends:
        path = Path(text[:end]).expanduser()
        if text[:end] and path.exists():
            path = path.resolve()
            if text[end:].startswith("@"):
                return _commit(path, text, end + 1)
            series = text[end + 1 :] if end < len(text) else None
            return _patched(_at(path, text[:end]), text, series)
    if "/" in text or text.startswith(("~", ".")):
        raise Problem(f"no such image or tree: {text}", expected=FORMS)
    raise Problem(f"not a kernel spec: {text!r}", expected=FORMS)


def _commit(checkout: Path, text: str, begin: int) -> Spec:
    named, commit = revision.find(checkout, text[begin:])
    end = begin + len(named)
    name = revision.name(checkout, named, commit)
    base = Spec(text[:end], "commit", name, path=checkout, commit=commit)
    return _patched(base, text, text[end + 1 :] if end < len(text) else None)


def _at(path: Path, text: str) -> Spec:
    if record := entries.read(path):
        return Spec(text, "built", record.name, path=path)
    name = _NOT_IN_NAMES.sub("_", path.name) or "tree"
    if path.is_dir():
        _check_tree(path)
        return Spec(text, "tree", name, path=path)
    _check_image(path)
    return Spec(text, "image", name, path=path)


def _check_image(path: Path) -> None:
    try:
        with path.open("rb") as file:
            file.seek(_MAGIC_AT)
            magic = file.read(len(_MAGIC))
    except OSError as error:
        raise Problem(f"cannot read kernel image {path}: {error.strerror}") from error
    if magic != _MAGIC:
        raise Problem(
            f"not an x86 kernel image: {path}",
            expected="a bzImage (a vmlinux does not boot this way)",
            mend="give arch/x86/boot/bzImage of a build, or the source tree",
        )


def _check_tree(path: Path) -> None:
    missing = [name for name in ("Kconfig", "Makefile") if not (path / name).is_file()]
    if missing:
        raise Problem(
            f"not a Linux source tree: {path} has no {' and no '.join(missing)}",
            expected="the top folder of a kernel source tree",
        )


def check_make_path(path: Path) -> None:
    """Refuse a path that the kernel's Makefile refuses.

    Args:
        path: a source or build folder.

    Raises:
        Problem: it contains a space or a colon.
    """
    if re.search(r"[\s:]", str(path)):
        raise Problem(
            f"the kernel cannot be built in a path with spaces or colons: {path}",
            mend="move the folder, or set PYTEST_IOMMUFD_CACHE if it is the cache folder",
        )
