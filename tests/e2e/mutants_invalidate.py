# SPDX-License-Identifier: GPL-2.0-only
"""Checks of IOMMU_HWPT_INVALIDATE that are removed, and the rules that notice."""

from mutant import Mutant

CALL = "iommufd_hwpt_invalidate"
NEW = "7.3"
# fmt: off
MUTANTS = (
    Mutant("no_length", "!cmd->entry_len ||", "", "array.before_id", CALL, NEW),
    Mutant("length", "cmd->entry_len > PAGE_SIZE ||", "0 ||", "array.before_id", CALL, NEW),
)
# fmt: on
