# SPDX-License-Identifier: GPL-2.0-only
"""Checks of IOMMU_HWPT_INVALIDATE that are removed, and the rules that notice."""

from mutant import Mutant

CALL, NESTED = "iommufd_hwpt_invalidate", "mock_domain_cache_invalidate_user"
VIOMMU = "mock_viommu_cache_invalidate"
NEW, OLD, MOCK = "7.3", "6.12", "selftest.c"
# fmt: off
MUTANTS = (
    Mutant("reserved", "if (cmd->__reserved)", "if (0)",
           "reserved reserved.first", CALL, NEW),
    Mutant("pointer", "!cmd->data_uptr ||", "", "array.no_pointer array.before_id", CALL, NEW),
    Mutant("no_length", "!cmd->entry_len ||", "", "array.before_id", CALL, NEW),
    Mutant("length", "cmd->entry_len > PAGE_SIZE ||", "0 ||", "array.before_id", CALL, NEW),
    Mutant("number", "cmd->entry_num > IOMMU_HWPT_INVALIDATE_ENTRY_NUM_MAX", "0",
           "array.too_many array.before_id", CALL, OLD),
    Mutant("number_off_by_one", "cmd->entry_num > IOMMU_HWPT_INVALIDATE_ENTRY_NUM_MAX",
           "cmd->entry_num >= IOMMU_HWPT_INVALIDATE_ENTRY_NUM_MAX", "array.most", CALL, OLD),
    Mutant("zero_entries", "if (cmd->entry_num &&", "if (1 &&", "array.none", CALL, OLD),
    Mutant("lookup", "rc = PTR_ERR(pt_obj);", "rc = -EINVAL;", "id.names_nothing id.destroyed",
           CALL, NEW),
    Mutant("other_type", "rc = -EINVAL; goto out_put_pt;", "rc = 0; goto out_put_pt;",
           "id.other_type id.other_type.nesting", CALL, NEW),
    Mutant("count", "done_num = data_array.entry_num;", "",
           "nested.slots nested.stops_at_flags", CALL, OLD),
    Mutant("count_told", "cmd->entry_num = done_num;", "", "reserved nested.stops_at_slot", CALL,
           OLD),
    Mutant("respond", "if (iommufd_ucmd_respond(ucmd, sizeof(*cmd))) return -EFAULT;",
           "iommufd_ucmd_respond(ucmd, sizeof(*cmd));", "output.unwritable", CALL, OLD),
    Mutant("respond_errno", "return -EFAULT;", "return rc;",
           "output.unwritable output.unwritable_after_error", CALL, OLD),
    # the mock driver's
    Mutant("nested_type", "if (array->type != IOMMU_HWPT_INVALIDATE_DATA_SELFTEST)", "if (0)",
           "nested.type", NESTED, OLD, MOCK),
    Mutant("nested_flags", "if (inv.flags & ~IOMMU_TEST_INVALIDATE_FLAG_ALL)", "if (0)",
           "nested.flags nested.stops_at_flags nested.flags.before_slot", NESTED, OLD, MOCK),
    Mutant("nested_count", "processed++;", "processed = i;", "nested.slots nested.many", NESTED,
           OLD, MOCK),
    Mutant("viommu_flags", "if (cur->flags & ~IOMMU_TEST_INVALIDATE_FLAG_ALL)", "if (0)",
           "viommu.flags viommu.flags.first", VIOMMU, NEW, MOCK),
    Mutant("viommu_count", "array->entry_num = cur - cmds;", "",
           "viommu.stops_at_vdev_id viommu.array_ends", VIOMMU, NEW, MOCK),
    Mutant("viommu_probe", "array->entry_num == 0 && array->type == "
           "IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST", "array->entry_num == 0", "viommu.type.probe",
           VIOMMU, NEW, MOCK),
)
# fmt: on
