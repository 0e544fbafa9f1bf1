# SPDX-License-Identifier: GPL-2.0-only
"""IOMMU_VDEVICE_ALLOC."""
