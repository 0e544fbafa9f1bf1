# SPDX-License-Identifier: GPL-2.0-only
"""Which headers are known before a kernel is booted."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING

from pytest_iommufd.errors import Problem
from pytest_iommufd.kernel import ready
from pytest_iommufd.kernel.cache.store import default_root
from pytest_iommufd.uapi import Uapi

if TYPE_CHECKING:
    from pathlib import Path


@functools.cache
def known_headers(specs: tuple[str, ...], configs: tuple[Path, ...] = ()) -> dict[str, Uapi]:
    """Return the descriptions of headers by what messages call them: first those of built kernels.

    Args:
        specs: the kernels.
        configs: files of the user's configuration.
    """
    found: dict[str, Uapi] = {}
    for spec in specs:
        with contextlib.suppress(Problem):
            kernel = ready(spec, default_root(), configs)
            if kernel and kernel.uapi:
                found[spec] = Uapi.load(kernel.uapi)
    for uapi in Uapi.shipped():
        found[f"{uapi.name} as shipped"] = uapi
    return found
