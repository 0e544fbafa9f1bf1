# SPDX-License-Identifier: GPL-2.0-only
"""A folder of modules: which of them a guest needs, in the order to load them.

Only .modinfo is asked, so that nobody has to have run depmod.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pytest_iommufd.errors import Problem
from pytest_iommufd.host import unpack
from pytest_iommufd.kernel.asis import module

CHANNEL = ("virtio_pci", "virtio_console")
"""The drivers of the channel to the agent."""
_TOPS = ("iommufd", "vfio_pci")  # what tests need
ENDS = tuple(f".ko{suffix}" for suffix in unpack.SUFFIXES)
"""Ends the names of modules' files."""
# Of two modules of one name the one in this folder is meant, as depmod has it by default.
_UPDATES = "updates"


@dataclass(frozen=True)
class Modules:
    """The modules of a kernel.

    Attributes:
        folder: where they are.
        files: by name.
        builtin: the names of those that the image contains; None when that is not known.
    """

    folder: Path
    files: dict[str, Path]
    builtin: frozenset[str] | None

    def has(self, name: str) -> bool | None:
        """Whether the kernel has a module, built in or not; None when it is not known."""
        if name in self.files:
            return True
        return None if self.builtin is None else name in self.builtin

    def load_order(self, release: str) -> tuple[Path, ...]:
        """Find what a guest needs.

        Args:
            release: of the image, empty when it is not known.

        Returns:
            Files in the order to load them: what gives the channel to the agent, iommufd, vfio-pci,
            and before each what it needs. What is neither here nor built in is left out.

        Raises:
            Problem: a file is of no use, a module of another kernel, or what it needs is missing.
        """
        order: dict[str, Path] = {}
        for name in (*CHANNEL, *_TOPS):
            if name in self.files:
                self._add(name, release, order)
        return tuple(order.values())

    def _add(self, name: str, release: str, order: dict[str, Path]) -> None:
        if name in order or (self.builtin and name in self.builtin):
            return
        found = module.read(self.files[name])
        if release and found.release and found.release != release:
            raise Problem(
                f"the module {found.path} was built for kernel {found.release}, "
                f"and the image is {release}",
                expected="modules of the same build as the image",
            )
        for needed in found.depends:
            if self.has(needed) is False:
                raise Problem(
                    f"the module {name} needs {needed}, which is neither built in nor in "
                    f"{self.folder}",
                    expected="all modules of the image's build",
                )
            if needed in self.files:
                self._add(needed, release, order)
        order[name] = found.path


def of_build(folder: Path) -> Modules:
    """Find the modules of a build, which make has listed.

    Args:
        folder: the build folder.

    Raises:
        Problem: they have not been built.
    """
    listed = folder / "modules.order"
    names = listed.read_text("utf-8").split() if listed.is_file() else []
    # the objects are listed, from Linux 6.1 on
    paths = [(folder / name).with_suffix(".ko") for name in names]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise Problem(
            f"the modules in {folder} are not built: {missing[0].relative_to(folder)} is missing",
            mend=f"make -C {folder} modules",
        )
    return Modules(folder, {module.name_of(path): path for path in paths}, _builtin(folder))


def of_folder(folder: Path, release: str) -> Modules:
    """Find modules that were installed, or .ko files that were put into a folder.

    Args:
        folder: a /lib/modules/RELEASE, what `make modules_install` was given as INSTALL_MOD_PATH,
            or any folder with modules in or below it.
        release: of the image, empty when it is not known.

    Raises:
        Problem: there is no such folder, or no module in it.
    """
    if not folder.is_dir():
        raise Problem(f"no such folder of modules: {folder}")
    folder = _installed(folder, release)
    if (folder / "modules.order").is_file() and (folder / "include/config").is_dir():
        return of_build(folder)
    files: dict[str, Path] = {}
    for path in sorted(_walk(folder), key=lambda path: _UPDATES in path.parts):
        files[module.name_of(path)] = path
    builtin = _builtin(folder)
    # a distribution may have the configuration beside the image, and the modules in other packages
    if not files and builtin is None and not (folder / "config").is_file():
        raise Problem(
            f"there is no module in {folder}",
            expected="a folder that `make modules_install` filled, or .ko files",
        )
    return Modules(folder, files, builtin)


def listed_in(text: str) -> frozenset[str]:
    """Return the names of the modules that a modules.builtin lists."""
    return frozenset(module.name_of(Path(line)) for line in text.split())


def _installed(folder: Path, release: str) -> Path:
    """The folder of a release where the folder is one that several are installed in."""
    for top in ("lib/modules", "usr/lib/modules"):
        found = sorted(path for path in (folder / top).glob("*") if path.is_dir())
        if not found:
            continue
        if folder / top / release in found:
            return folder / top / release
        if release or len(found) > 1:
            raise Problem(
                f"{folder / top} has modules of {', '.join(path.name for path in found)}",
                expected=f"modules of the image's release, {release or 'which it does not tell'}",
                mend="give the folder of that release",
            )
        return found[0]
    return folder


def _walk(folder: Path) -> list[Path]:
    return [
        Path(top, name)
        for top, _, names in os.walk(folder)
        for name in names
        if name.endswith(ENDS)
    ]


def _builtin(folder: Path) -> frozenset[str] | None:
    listed = folder / "modules.builtin"
    if not listed.is_file():
        return None
    return listed_in(listed.read_text("utf-8"))
