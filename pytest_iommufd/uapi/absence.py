# SPDX-License-Identifier: GPL-2.0-only
"""The ABI of a kernel that was built without iommufd_test, and why it does not have a name."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

from pytest_iommufd.uapi.abi import Uapi
from pytest_iommufd.uapi.errors import UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Mapping

NO_IOMMUFD_TEST = (
    "the kernel does not have the mock devices and operations of iommufd_test: "
    "CONFIG_IOMMUFD_TEST=y brings them"
)
"""Why a rule is absent that uses what only iommufd_test has."""
TEST_COMMAND = "IOMMU_TEST_CMD"


class _WithoutTest(Uapi):
    """An ABI whose errors tell that iommufd_test is what the kernel does not have."""

    def _unknown(self, name: str, *args: Any, full: str = "", **options: Any) -> UnknownNameError:
        error = super()._unknown(name, *args, full=full, **options)
        if not _is_of_test(self, full or name):
            return error
        return UnknownNameError(error.what, missing=full or name, lacks=NO_IOMMUFD_TEST)


@functools.cache
def without_iommufd_test(uapi: Uapi) -> Uapi:
    """Return the ABI of the same kernel built without iommufd_test.

    Args:
        uapi: the kernel's, loaded from a file.

    Returns:
        That without the names of iommufd_test.h, which say so where they are used.
    """

    def kept(names: Mapping[str, Any]) -> dict[str, Any]:
        return {name: names[name] for name in names if not _is_of_test(uapi, name)}

    assert uapi.path  # noqa: S101 - kernels' and the shipped ones have one
    description = json.loads(uapi.path.read_bytes())
    enums = {name: kept(names) for name, names in description["enums"].items()}
    description["enums"] = {name: names for name, names in enums.items() if names}
    for part in ("structs", "constants", "ioctls"):
        description[part] = kept(description[part])
    return _WithoutTest(description, uapi.name, uapi.path)


def why_absent(uapi: Uapi, name: str) -> str:
    """Say why a kernel does not have what headers have a name for.

    Args:
        uapi: the kernel's.
        name: a constant, a struct, a command or a `struct.field`.

    Returns:
        The reason, "" where the kernel's header has the name.
    """
    if uapi.has(name):
        return ""
    if _is_of_test(uapi, name.partition(".")[0]) and not uapi.has(TEST_COMMAND):
        return NO_IOMMUFD_TEST
    return f"the kernel's header does not define {name}"


def _is_of_test(uapi: Uapi, name: str) -> bool:
    return not uapi.is_of_iommufd(name) and not name.lower().startswith("vfio_")
