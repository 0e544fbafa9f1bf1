# SPDX-License-Identifier: GPL-2.0-only
"""IOMMU_HWPT_INVALIDATE."""
