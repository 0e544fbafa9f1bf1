# SPDX-License-Identifier: GPL-2.0-only
"""Building iommufd's module anew from edited sources, for a kernel that is already built."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_iommufd.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.kernel.model import Kernel

_IOMMU = Path("drivers/iommu")


def rebuild_module(
    kernel: Kernel, edit: Callable[[Path], object], destination: Path
) -> tuple[Path, ...]:
    """Build iommufd.ko from an edited copy of its sources; takes seconds.

    Neither the source tree nor the build directory of the kernel is written to, so several of
    these may run at once.

    Args:
        kernel: a kernel that was built here with iommufd as a module.
        edit: receives a copy of drivers/iommu/iommufd and changes it.
        destination: a folder for the modules; it is created.

    Returns:
        The modules in the order to load them, the edited one in place of the kernel's.

    Raises:
        Problem: the kernel has no such module or was not built here, or the copy does not compile.
    """
    from pytest_iommufd.host.progress import Silent  # noqa: PLC0415 - likewise
    from pytest_iommufd.kernel.build.make import BuildError, Make  # noqa: PLC0415 - for builders only

    if not (kernel.build and kernel.tree and kernel.modules):
        raise Problem(
            f"iommufd of kernel {kernel.name} cannot be rebuilt",
            expected="a kernel built here from a source package or a tree, with iommufd a module",
        )
    destination.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="pytest-iommufd-") as scratch,
        (destination / "build.log").open("wb", buffering=0) as log,
    ):
        copy = Path(scratch) / _IOMMU / "iommufd"
        shutil.copytree(kernel.tree / _IOMMU / "iommufd", copy)
        for header in (kernel.tree / _IOMMU).glob("*.h"):  # it includes ../iommu-priv.h and others
            shutil.copy(header, copy.parent)
        edit(copy)
        make = Make(kernel.tree, kernel.build, log)
        try:
            make(f"M={copy}", "modules", progress=Silent())
        except BuildError as error:
            raise Problem(
                f"the edited iommufd of kernel {kernel.name} does not build",
                mend=f"see the whole log: {log.name}",
                detail=error.tail,
            ) from error
        return tuple(
            Path(shutil.copy(rebuilt if rebuilt.exists() else module, destination))
            for module in kernel.modules
            for rebuilt in [copy / module.name]
        )
