# SPDX-License-Identifier: GPL-2.0-only
"""Checks of IOMMU_HW_QUEUE_ALLOC that are removed, and the rules that notice."""

from mutant import Mutant

PHYS = "iommufd_hw_queue_alloc_phys"
ON = ("7.3", "viommu.c")
# fmt: off
MUTANTS = (
    Mutant("contiguous", "rc = -EFAULT; goto out_unpin;", "", "memory.not_contiguous", PHYS, *ON),
)
# fmt: on
