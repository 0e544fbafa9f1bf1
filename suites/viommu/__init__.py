# SPDX-License-Identifier: GPL-2.0-only
"""IOMMU_VIOMMU_ALLOC, and mmap of what it offers."""
