# SPDX-License-Identifier: GPL-2.0-only
"""Kernel specs, as given to `--kernel`."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pytest_iommufd.errors import Problem
from pytest_iommufd.kernel.asis import image, packages, place
from pytest_iommufd.kernel.cache import entries
from pytest_iommufd.kernel.series import patchseries
from pytest_iommufd.kernel.source import revision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_iommufd.kernel.build.own import Own

FORMS = (
    "running (this machine's kernel), ssh:[USER@]HOST (that machine's kernel), a kernel image, "
    "IMAGE:FOLDER (an image and its modules), a build folder, "
    "FILE.deb or FILE.rpm (several of one kernel with : between them), "
    "debian:PACKAGE (a linux-image of this machine's mirrors), a source tree, "
    "TREE@REV (a tag, branch or commit of a git checkout), "
    "X.Y (Debian source package linux-source-X.Y), X.Y.Z (that release of kernel.org), or the "
    "folder of a kernel built here before; +SERIES after a tree, TREE@REV or X.Y applies a patch "
    "series"
)

DEFAULT_KERNEL = "6.12"
"""The spec when none is given."""

SSH = "ssh:"
"""What a spec of a machine elsewhere begins with."""

_VERSION = re.compile(r"(?P<version>\d+\.\d+(?:\.\d+)?)(?:\+(?P<series>.*))?")
_PATCHABLE = (
    "a source tree, TREE@REV or X.Y in front of the series: a patched kernel has to be built"
)
# The kinds of what is configured and built here.
_FROM_SOURCE = frozenset({"tree", "commit", "package"})
_OFFERED = "debian:"
_PACKAGE = re.compile(r"linux-[a-z]+-[a-z0-9.+~-]+")
_BUILT_HERE = "a source tree, TREE@REV or X.Y: their kernels are configured and built"
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._+-]")
# ssh would take what begins with a dash for an option of its own.
_HOST = re.compile(r"(?:[\w.][\w.-]*@)?[\w.:][\w.:%-]*")


@dataclass(frozen=True)
class Spec:
    """A parsed kernel spec.

    Attributes:
        text: what the user wrote.
        kind: what it names.
        name: its name in test ids.
        path: absolute path of an image, a build folder, a tree, a git checkout or a folder of the
            cache, else None.
        commit: hash of a commit of the checkout, else empty.
        version: `X.Y` or `X.Y.Z` of a source package, else empty.
        host: `[USER@]HOST` of a machine that ssh reaches, else empty.
        series: patch series to apply, in order.
        base: the spec of what they are applied to; None without series.
        modules: absolute path of the folder of an image's modules; None when none was named.
        packages: absolute paths of the packages of a kernel.
        offered: name of a kernel's package on this machine's mirrors, else empty.
        own: the user's configuration, if there is one.
    """

    text: str
    kind: Literal[
        "running", "ssh", "image", "build", "packages", "tree", "commit", "package", "built"
    ]
    name: str
    path: Path | None = None
    commit: str = ""
    version: str = ""
    host: str = ""
    series: tuple[patchseries.Series, ...] = ()
    base: Spec | None = None
    modules: Path | None = None
    packages: tuple[Path, ...] = ()
    offered: str = ""
    own: Own | None = None


def parse(text: str, configs: Sequence[Path] = ()) -> Spec:
    """Tell what a spec names.

    Args:
        text: `running`, `ssh:[USER@]HOST`, `IMAGE:FOLDER`, `debian:PACKAGE`, a path to an image, to
            a build folder or to a tree, `TREE@REV`, `X.Y` or `X.Y.Z`; `+SERIES` may follow the
            last four.
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

    if spec.kind not in _FROM_SOURCE:
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
    if text.startswith(SSH):
        return _remote(text)
    if match := _VERSION.fullmatch(text):
        version = match["version"]
        return _patched(Spec(version, "package", version, version=version), text, match["series"])
    if text.startswith(_OFFERED):
        return _by_name(text, text.removeprefix(_OFFERED))
    return _path(text)


def _remote(text: str) -> Spec:
    host = text.removeprefix(SSH)
    if "+" in host:
        raise Problem(
            f"patch series cannot be applied to the kernel that a machine runs: {text}",
            expected=_PATCHABLE,
        )
    if not _HOST.fullmatch(host):
        raise Problem(
            f"not a machine that ssh can reach: {text!r}",
            expected="ssh:HOST or ssh:USER@HOST; a port and a key stand in ~/.ssh/config",
        )
    return Spec(text, "ssh", f"ssh-{_NOT_IN_NAMES.sub('_', host)}", host=host)


def _by_name(text: str, name: str) -> Spec:
    if not _PACKAGE.fullmatch(name):
        raise Problem(
            f"not the name of a kernel's Debian package: {name!r}",
            expected=f"such as {_OFFERED}linux-image-6.12.118+deb13-amd64",
        )
    return Spec(text, "packages", name, offered=name)


def _patched(base: Spec, text: str, series: str | None) -> Spec:
    if series is None:
        return base
    if base.kind not in _FROM_SOURCE:
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
    # "+", "@" and ":" may be part of a file name: the longest prefix that exists is the path.
    ends = [len(text), *(at for at in range(len(text) - 1, 0, -1) if text[at] in "+@:")]
    for end in ends:
        path = Path(text[:end]).expanduser()
        if text[:end] and path.exists():
            path = path.resolve()
            if text[end:].startswith("@"):
                return _commit(path, text, end + 1)
            if text[end:].startswith(":"):
                return _with_modules(_at(path, text), text, text[end + 1 :])
            series = text[end + 1 :] if end < len(text) else None
            return _patched(_at(path, text[:end]), text, series)
    if "/" in text or text.startswith(("~", ".")):
        raise Problem(f"no such image or tree: {text}", expected=FORMS)
    raise Problem(f"not a kernel spec: {text!r}", expected=FORMS)


def _with_modules(spec: Spec, text: str, folder: str) -> Spec:
    if spec.kind == "packages":
        return _with_packages(spec, folder.split(":"))
    if spec.kind != "image":
        raise Problem(f"not a kernel image in front of a folder of modules: {text}", expected=FORMS)
    modules = Path(folder).expanduser()
    if not modules.is_dir():
        raise Problem(f"no such folder of modules: {modules}")
    return dataclasses.replace(spec, modules=modules.resolve())


def _with_packages(spec: Spec, files: Sequence[str]) -> Spec:
    others = tuple(Path(file).expanduser() for file in files)
    for path in others:
        if path.suffix not in packages.SUFFIXES or not path.is_file():
            raise Problem(
                f"no such package: {path}", expected="FILE.deb:FILE.deb or FILE.rpm:FILE.rpm"
            )
    return dataclasses.replace(spec, packages=(*spec.packages, *(p.resolve() for p in others)))


def join_modules(specs: Sequence[str], folders: Sequence[str]) -> list[str]:
    """Give images the folders of their modules.

    Args:
        specs: kernels.
        folders: of the modules of each image among them, in that order.

    Returns:
        The specs, those of images as IMAGE:FOLDER.

    Raises:
        Problem: a spec is none, or there are not as many images as folders.
    """
    images = [spec for spec in specs if parse(spec).kind == "image"]
    if len(images) != len(folders):
        raise Problem(
            f"{len(folders)} folders of modules are given for {len(images)} kernel images",
            expected="one folder for each image, in the order of the images",
        )
    rest = iter(folders)
    return [f"{spec}:{next(rest)}" if spec in images else spec for spec in specs]


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
        if place.is_build(path):
            return Spec(text, "build", name, path=path)
        _check_tree(path)
        return Spec(text, "tree", name, path=path)
    if path.suffix in packages.SUFFIXES:
        name = _NOT_IN_NAMES.sub("_", packages.name_of(path))
        return Spec(text, "packages", name, path=path, packages=(path,))
    image.release(path)  # that it is one
    return Spec(text, "image", name, path=path)


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
