# SPDX-License-Identifier: GPL-2.0-only
"""IOMMU_GET_HW_INFO."""
