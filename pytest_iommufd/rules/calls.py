# SPDX-License-Identifier: GPL-2.0-only
"""The ioctls that a test made, for the report of its failure."""

import pytest

CALLS_KEY = pytest.StashKey[list[object]]()
