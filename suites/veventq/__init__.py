# SPDX-License-Identifier: GPL-2.0-only
"""IOMMU_VEVENTQ_ALLOC, and the events that are read."""
