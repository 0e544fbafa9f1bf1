# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import pytest

from pytest_iommufd.uapi import Uapi


@pytest.fixture(scope="session")
def newest() -> Uapi:
    return Uapi.shipped()[0]
