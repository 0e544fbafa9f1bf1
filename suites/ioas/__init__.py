# SPDX-License-Identifier: GPL-2.0-only
"""IOMMU_IOAS_*: what is mapped where in an I/O address space; and IOMMU_OPTION."""
