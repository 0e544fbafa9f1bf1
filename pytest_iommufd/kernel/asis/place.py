# SPDX-License-Identifier: GPL-2.0-only
"""Where a kernel that others have built keeps its parts: a build folder, /boot, /lib/modules."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_iommufd.errors import Problem
from pytest_iommufd.kernel.asis import config, image, modules

if TYPE_CHECKING:
    from pytest_iommufd.kernel.asis.config import Config
    from pytest_iommufd.kernel.asis.modules import Modules

_IMAGE = Path("arch/x86/boot/bzImage")
_IOMMUFD_H = Path("include/uapi/linux/iommufd.h")
_INCLUDED = re.compile(r"^include\s+(\S.*)/Makefile$", re.MULTILINE)


@dataclass(frozen=True)
class Place:
    """A kernel's parts.

    Attributes:
        image: the bzImage.
        release: `uname -r` of it; empty when the image does not say.
        modules: its modules; None when none are known.
        config: its configuration; None when that is not known.
        build: what can build modules for it: its build folder, or that of a headers package.
    """

    image: Path
    release: str
    modules: Modules | None = None
    config: Config | None = None
    build: Path | None = None

    @property
    def tree(self) -> Path | None:
        """The source tree or the headers that its build folder belongs to, None if it is gone."""
        return _source(self.build) if self.build else None


def is_build(folder: Path) -> bool:
    """Tell whether a folder is one that make filled, and no source tree.

    Args:
        folder: any folder.
    """
    return (folder / ".config").is_file() and not (folder / "Kconfig").exists()


def of_build(folder: Path) -> Place:
    """Find what a build made.

    Args:
        folder: where make put it: what O= was, or a tree that was built in place.

    Raises:
        Problem: it is not finished, or a build for another architecture.
    """
    configuration = config.read(folder / ".config")  # another architecture's has no such image
    path = folder / _IMAGE
    if not path.is_file():
        raise Problem(
            f"{folder} is a build folder without {_IMAGE}",
            expected="a finished build",
            mend=f"make -C {folder} bzImage modules",
        )
    return Place(path, image.release(path), modules.of_build(folder), configuration, folder)


def of_image(path: Path, folder: Path | None) -> Place:
    """Find what belongs to an image: in its build folder, or where it is installed.

    Args:
        path: the image.
        folder: of its modules, if the user has named one.

    Raises:
        Problem: the image or the modules are of no use.
    """
    release = image.release(path)
    build = path.parents[3] if path.parts[-3:-1] == ("x86", "boot") else None
    if not folder and build and (build / ".config").is_file():
        return of_build(build)
    folder = folder or _installed(path, release)
    if not folder:
        return Place(path, release)
    found = modules.of_folder(folder, release)
    # what `make modules_install` and packages link to or put beside it
    top = path.parent.parent
    builds = (
        found.folder,
        found.folder / "build",
        top / f"usr/src/linux-headers-{release}",
        top / f"usr/src/kernels/{release}",
    )
    build = next((one for one in builds if _source(one)), None)
    configs = (
        path.parent / f"config-{release}",
        found.folder / "config",
        *(one / ".config" for one in builds),
    )
    said = next(filter(Path.is_file, configs), None)
    return Place(path, release, found, config.read(said) if said else None, build)


def _installed(path: Path, release: str) -> Path | None:
    """The folder of the modules that were installed with an image."""
    if not release:
        return None
    beside = path.parent
    if beside.name == release and beside.parent.name == "modules":
        return beside  # as Fedora and Arch have it
    places = (beside.parent / top / release for top in ("lib/modules", "usr/lib/modules"))
    return next(filter(Path.is_dir, places), None) if beside.name == "boot" else None


def _source(build: Path) -> Path | None:
    makefile = build / "Makefile"
    text = makefile.read_text("utf-8", errors="replace") if makefile.is_file() else ""
    named = [Path(match) for match in _INCLUDED.findall(text)]
    # a headers package that is unpacked elsewhere still says where it would be installed
    beside = [build.resolve().parent / one.name for one in named]
    places = (build, build / "source", *named, *beside)
    return next((one.resolve() for one in places if (one / _IOMMUFD_H).is_file()), None)
