# SPDX-License-Identifier: GPL-2.0-only
"""The types that a run knows: ours, and those that other plugins and conftest.py files add."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.errors import Problem
from pytest_iommufd.hwpt_types import shipped
from pytest_iommufd.hwpt_types.declaration import HwptType
from pytest_iommufd.kernel.headers import known_headers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_iommufd.uapi import Uapi

_TYPES = pytest.StashKey[list[HwptType]]()


def headers(config: pytest.Config) -> Mapping[str, Uapi]:
    """Return the headers that types are looked up in: of this run's kernels, and the shipped."""
    option = config.option
    configs = tuple(map(Path, option.iommufd_config or ()))
    return known_headers(tuple(option.iommufd_kernel or ()), configs)


def declared(config: pytest.Config) -> list[HwptType]:
    """Return our types and those that pytest_iommufd_hwpt_types gives, each of them right.

    Of two with one name the one that was added last counts: a conftest.py may say better.

    Raises:
        Problem: a declaration is not right; with its file and line.
    """
    if _TYPES not in config.stash:
        added = config.hook.pytest_iommufd_hwpt_types()
        found = [each for types in (*added, shipped.TYPES) for each in types]
        for each in found:
            if not isinstance(each, HwptType):
                raise Problem(
                    f"the hook pytest_iommufd_hwpt_types gave {each!r}",
                    expected="an iterable of pytest_iommufd.HwptType",
                )
        by_name = {each.name: each for each in reversed(found)}
        for each in by_name.values():
            each.check_known(headers(config))
        config.stash[_TYPES] = list(by_name.values())[::-1]
    return config.stash[_TYPES]
