# SPDX-License-Identifier: GPL-2.0-only
"""IOMMU_FAULT_QUEUE_ALLOC, and the faults that are read and answered."""
