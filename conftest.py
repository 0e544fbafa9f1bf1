# SPDX-License-Identifier: GPL-2.0-only
"""The repository's own test run."""

import os

from pytest_iommufd.kernel.cache.store import default_root

pytest_plugins = ["pytester"]

# pytester gives the runs within tests a home of their own; the kernels are not to be built there.
os.environ.setdefault("PYTEST_IOMMUFD_CACHE", str(default_root()))
