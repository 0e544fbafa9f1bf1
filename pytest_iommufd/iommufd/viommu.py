# SPDX-License-Identifier: GPL-2.0-only
"""Virtual IOMMUs."""

from __future__ import annotations

from pytest_iommufd.iommufd.object import IommufdObject


class Viommu(IommufdObject):
    """A slice of a physical IOMMU; nested HWPTs can be made from it."""
