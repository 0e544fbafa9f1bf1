# SPDX-License-Identifier: GPL-2.0-only
"""A kernel as others have built it, ready to boot."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_iommufd.host.progress import Silent
from pytest_iommufd.kernel import description
from pytest_iommufd.kernel.asis import config, packages, place
from pytest_iommufd.kernel.model import Kernel
from pytest_iommufd.kernel.source.identity import digest

if TYPE_CHECKING:
    from pytest_iommufd.kernel.cache.store import Cache
    from pytest_iommufd.kernel.spec import Spec

_TEST_H = "drivers/iommu/iommufd/iommufd_test.h"
_HEADERS = ("include/uapi/linux/iommufd.h", "include/uapi/linux/vfio.h", _TEST_H)


def load(spec: Spec, path: Path, cache: Cache) -> Kernel:
    """Have a kernel of an image, of packages or of a build folder.

    Args:
        spec: what the user wrote.
        path: the image, the first package or the folder.
        cache: keeps descriptions of headers, and what was unpacked.

    Returns:
        The kernel; its uAPI is described if its headers are here.

    Raises:
        Problem: it cannot be tested, or is of no use.
    """
    if spec.packages:
        path = packages.unpack(spec.packages, spec.name, cache)
    found = place.of_build(path) if spec.kind == "build" else place.of_image(path, spec.modules)
    config.check(found.release or spec.name, found.config, found.modules)
    if found.modules:
        order = found.modules.load_order(found.release)
        source = f"image {found.image}, modules of {found.modules.folder}"
    else:
        order = ()
        source = f"image {found.image}"
    return Kernel(
        spec.text,
        spec.name,
        found.release,
        source,
        image=found.image,
        modules=order,
        uapi=_uapi(spec.name, found, cache),
    )


def _uapi(name: str, found: place.Place, cache: Cache) -> Path | None:
    """Describe the headers, once for each content that they have."""
    tree, build = found.tree, found.build
    if not tree or not build:
        return None
    headers = [tree / header for header in _HEADERS if (tree / header).is_file()]
    # A headers package has no iommufd_test.h: of what the kernel has beyond it nothing is known.
    tests = not found.config or "IOMMUFD_TEST" in found.config.values
    if tests and tree / _TEST_H not in headers:
        return None
    key = digest(
        description.describer(), found.release, *(header.read_bytes() for header in headers)
    )
    path = cache.root / "described" / key[:16] / f"{name}.json"
    if not path.is_file():
        with cache.writing():
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
                fresh = Path(scratch) / path.name
                description.describe(tree, build, fresh, Silent())
                fresh.replace(path)
    return path
