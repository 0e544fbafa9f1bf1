# SPDX-License-Identifier: GPL-2.0-only
"""IOMMU_HW_QUEUE_ALLOC."""
