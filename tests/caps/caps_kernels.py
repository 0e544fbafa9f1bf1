# SPDX-License-Identifier: GPL-2.0-only
"""The kernels that are asked, and the command that asks them."""

import sys

CAPS = (sys.executable, "-m", "pytest_iommufd.commands.main", "caps")
OLD, NEW = "6.12", "7.3"
