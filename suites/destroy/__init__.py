# SPDX-License-Identifier: GPL-2.0-only
"""IOMMU_DESTROY, and the lives of objects."""
