# SPDX-License-Identifier: GPL-2.0-only
"""Checks of IOMMU_VIOMMU_ALLOC and mmap that are removed, and the rules that notice."""

from mutant import Mutant

CALL = "iommufd_viommu_alloc_ioctl"
ON = ("7.3", "viommu.c")
# fmt: off
MUTANTS = (
    Mutant("nest_parent", "if (!hwpt_paging->nest_parent)", "if (0)",
           "hwpt_id.no_parent hwpt_id.no_parent.before_data", CALL, *ON),
    Mutant("parent_users", "refcount_inc(&viommu->hwpt->common.obj.users);", "",
           "lifetime.parent lifetime.last", CALL, *ON),
)
# fmt: on
