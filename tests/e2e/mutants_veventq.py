# SPDX-License-Identifier: GPL-2.0-only
"""Checks of IOMMU_VEVENTQ_ALLOC and its events that are removed, and the rules that notice."""

from mutant import Mutant

CALL, READ = "iommufd_veventq_alloc", "iommufd_veventq_fops_read"
ON = ("7.3", "eventq.c")
# fmt: off
MUTANTS = (
    Mutant("depth", "cmd->veventq_depth > VEVENTQ_MAX_DEPTH", "0", "depth depth.before_id", CALL,
           *ON),
    Mutant("room", "sizeof(*hdr) + cur->data_len > count - done", "0",
           "read.part read.too_short", READ, *ON),
)
# fmt: on
