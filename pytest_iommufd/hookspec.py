# SPDX-License-Identifier: GPL-2.0-only
"""What other packages and conftest.py files can add."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_iommufd.hwpt_types import HwptType


@pytest.hookspec
def pytest_iommufd_hwpt_types() -> Iterable[HwptType]:  # type: ignore[empty-body]
    """Return data types of nested HWPTs; suites/hwpt_type tests each."""
