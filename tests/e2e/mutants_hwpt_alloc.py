# SPDX-License-Identifier: GPL-2.0-only
"""Checks of IOMMU_HWPT_ALLOC that are removed, and the rules that notice."""

from mutant import Mutant

PAGING = "iommufd_hwpt_paging_alloc"
NESTED = "iommufd_hwpt_nested_alloc"
VIOMMU = "iommufd_viommu_alloc_hwpt_nested"
V2, REVIEW = "6.12+hwpt-alloc-v2", "6.12+hwpt-alloc-v2-review"
# fmt: off
MUTANTS = (
    # checks that are gone; the mock driver refuses some of that too, but only later
    Mutant("reserved", "if (cmd->__reserved)", "if (0)", "reserved"),
    Mutant("none_with_length", "(cmd->data_type == IOMMU_HWPT_DATA_NONE && cmd->data_len)", "(0)",
           "data.length_without_type"),
    Mutant("type_without_length", "(cmd->data_type != IOMMU_HWPT_DATA_NONE && !cmd->data_len)",
           "(0)", "data.type_without_length"),
    Mutant("respond", "if (rc) goto out_hwpt; iommufd_object_finalize", "iommufd_object_finalize",
           "undone.unwritable_paging undone.unwritable_nested"),
    Mutant("paging_flags", "if (flags & ~valid_flags)", "if (0)", "flags.unknown_before_memory",
           PAGING),
    Mutant("nested_flags", "(flags & ~IOMMU_HWPT_FAULT_ID_VALID) ||", "",
           "parent.flags_before_parent", NESTED),
    Mutant("nested_without_data", "!user_data->len ||", "", "parent.no_data.before_parent",
           NESTED),
    Mutant("nested_parent", "parent->auto_domain || !parent->nest_parent ||", "",
           "parent.without_nest_parent parent.auto", NESTED),
    Mutant("nest_parent_with_fault_id", "if ((flags & IOMMU_HWPT_FAULT_ID_VALID) &&", "if (0 &&",
           "flags.parent_with_fault_id", PAGING, "7.3"),
    Mutant("viommu_flags", "if (flags & ~(IOMMU_HWPT_FAULT_ID_VALID | IOMMU_HWPT_ALLOC_PASID))",
           "if (0)", "viommu.flags_before_memory", VIOMMU, "7.3"),
    Mutant("viommu_without_data", "if (!user_data->len)", "if (0)",
           "viommu.no_data_before_memory", VIOMMU, "7.3"),
    # references that are not taken
    Mutant("parent_users", "refcount_inc(&parent->common.obj.users);", "", "lifetime.parent",
           NESTED),
    Mutant("fault_users", "refcount_inc(&fault->obj.users);", "", "fault_id.nested"),
    Mutant("viommu_users", "refcount_inc(&viommu->obj.users);", "", "viommu.holds", VIOMMU, "7.3"),
    # another errno
    Mutant("device_errno", "return PTR_ERR(idev);", "return -EINVAL;",
           "dev_id.names_nothing dev_id.other_type"),
    Mutant("pt_errno", "rc = -EINVAL; goto out_put_idev;", "rc = -EPERM; goto out_put_idev;",
           "pt_id.names_nothing"),
    Mutant("pt_type_errno", "rc = -EINVAL; goto out_put_pt;", "rc = -ENOENT; goto out_put_pt;",
           "pt_id.other_type parent.nested"),
    Mutant("fault_errno", "rc = PTR_ERR(fault);", "rc = -EINVAL;",
           "fault_id.nested.names_nothing"),
    # as posted: each check of the patch. Left out is only whether a driver has the ops: all have.
    Mutant("v2_size", "iommu_hwpt_alloc, data_uptr)", "iommu_hwpt_alloc, __reserved)",
           "size.first_version reserved.first_version", "iommufd_ioctl_ops", V2, "main.c"),
    Mutant("v2_flags", "cmd->flags ||", "", "flags.unknown flags.nested.all_ones", spec=V2),
    Mutant("v2_reserved", "|| cmd->__reserved", "", "reserved reserved.nested", spec=V2),
    Mutant("v2_device", "if (IS_ERR(idev))", "if (0)", "dev_id.names_nothing", spec=V2),
    Mutant("v2_type", "if (WARN_ON(klen < 0))", "if (0)", "data.nested.unknown_type", spec=V2),
    Mutant("v2_pt", "if (IS_ERR(pt_obj))", "if (0)", "pt_id.names_nothing", spec=V2),
    Mutant("v2_pt_type", "default: rc = -EINVAL; goto out_put_pt;", "default: ioas = NULL; break;",
           "pt_id.device", spec=V2),
    Mutant("v2_default_type", "if (hwpt_type == IOMMU_HWPT_TYPE_DEFAULT)", "if (0)",
           "parent.no_data data.length_without_type.nested", "iommufd_hwpt_parent", V2),
    Mutant("v2_nested", "if (pt_obj->type == IOMMUFD_OBJ_HWPT_NESTED)", "if (0)",
           "parent.nested", "iommufd_hwpt_parent", V2),
    Mutant("v2_auto", "if (parent->auto_domain)", "if (0)", "parent.auto",
           "iommufd_hwpt_parent", V2),
    Mutant("v2_parent", "if (IS_ERR(parent))", "if (0)", "parent.auto", spec=V2),
    Mutant("v2_length", "if (!cmd->data_len)", "if (0)", "data.type_without_length",
           "iommufd_hwpt_copy_data", V2),
    Mutant("v2_memory", "if (!data)", "if (0)", "failure.memory_object",
           "iommufd_hwpt_copy_data", V2),
    Mutant("v2_copy", "if (rc)", "if (0)", "data.nested.unreadable data.nested.too_long.nonzero",
           "iommufd_hwpt_copy_data", V2),
    Mutant("v2_data", "if (IS_ERR(data))", "if (0)", "data.nested.unreadable", spec=V2),
    Mutant("v2_hwpt", "if (IS_ERR(hwpt_paging))", "if (0)", "ioas.area_outside_aperture", spec=V2),
    Mutant("v2_nested_hwpt", "if (IS_ERR(hwpt_nested))", "if (0)", "failure.memory_driver",
           spec=V2),
    Mutant("v2_respond", "if (rc) iommufd_object_abort_and_destroy",
           "if (0) iommufd_object_abort_and_destroy",
           "undone.unwritable_paging undone.unwritable_nested", spec=V2),
    # as the review asked
    Mutant("review_length", "cmd->hwpt_type != IOMMU_HWPT_TYPE_DEFAULT && !cmd->data_len", "0",
           "data.type_without_length conflict.no_length_and_dev_id", spec=REVIEW),
    Mutant("review_type", "if (!ops->hwpt_type_is_supported(cmd->hwpt_type))", "if (0)",
           "data.nested.unknown_type", spec=REVIEW),
    Mutant("review_leak", "rc = -EINVAL; goto out_free_data;", "rc = -EINVAL; goto out_put_idev;",
           "data.nested.leaks_nothing", spec=REVIEW),
)
# fmt: on
