# SPDX-License-Identifier: GPL-2.0-only
"""Checks that all commands share, removed, and the rules that notice."""

from mutant import Mutant

MAIN = "main.c"
DISPATCH, TABLE, OPTION = "iommufd_fops_ioctl", "iommufd_ioctl_ops", "iommufd_option"


def _main(name: str, function: str, old: str, new: str, rules: str, spec: str = "6.12") -> Mutant:
    return Mutant(name, old, new, rules, function, spec, MAIN)


# fmt: off
MUTANTS = (
    # dispatch
    _main("minimum", DISPATCH, "if (ucmd.user_size < op->min_size) return -EINVAL;", "",
          "size.zero size.below_minimum size.minimum"),
    _main("minimum_too_high", DISPATCH, "if (ucmd.user_size < op->min_size)",
          "if (ucmd.user_size < op->size)", "size.minimum size.first_version", "7.3"),
    _main("exact_size", DISPATCH, "if (ucmd.user_size < op->min_size)",
          "if (ucmd.user_size != op->size)",
          "size.minimum size.tail_zero size.tail_nonzero size.tail_unreadable"),
    _main("tail_ignored", DISPATCH, "ret = copy_struct_from_user(ucmd.cmd, op->size, ucmd.ubuffer,"
          " ucmd.user_size);", "memset(&buf, 0, sizeof(buf)); ret = copy_from_user(ucmd.cmd,"
          " ucmd.ubuffer, min(ucmd.user_size, op->size)) ? -EFAULT : 0;",
          "size.tail_nonzero size.tail_nonzero_before_unreadable"),
    _main("number", DISPATCH, "if (op->ioctl_num != cmd)", "if (!op->execute)",
          "number.other_type"),
    _main("hole", DISPATCH, "return -ENOIOCTLCMD;",
          "return op->ioctl_num ? -ENOIOCTLCMD : -EINVAL;", "number.undefined"),
    _main("hole_before_pointer", DISPATCH, "ucmd.ictx = ictx;",
          "if (iommufd_ioctl_ops[nr - IOMMUFD_CMD_BASE].ioctl_num != cmd) return -ENOIOCTLCMD;"
          " ucmd.ictx = ictx;", "number.undefined_unreadable number.other_type_unreadable"),
    _main("size_pointer", DISPATCH, "if (ret) return ret; op =", "op =",
          "pointer.unreadable", "7.3"),
    _main("copy_error", DISPATCH, "if (ret) return ret; ret = op->execute", "ret = op->execute",
          "size.tail_nonzero", "7.3"),
    _main("new_object", DISPATCH, "iommufd_object_abort_and_destroy(ictx, ucmd.new_obj);", "{ }",
          "read_only.creating", "7.3"),
    # the table
    _main("table_hw_info", TABLE, "struct iommu_hw_info, __reserved)",
          "struct iommu_hw_info, out_capabilities)", "size.minimum size.first_version"),
    _main("table_viommu", TABLE, "struct iommu_viommu_alloc, out_viommu_id)",
          "struct iommu_viommu_alloc, hwpt_id)", "size.minimum size.below_minimum", "7.3"),
    _main("table_ioas_alloc", TABLE, "struct iommu_ioas_alloc, out_ioas_id)",
          "struct iommu_ioas_alloc, flags)", "size.minimum size.below_minimum"),
    _main("table_set_dirty", TABLE, "struct iommu_hwpt_set_dirty_tracking, __reserved)",
          "struct iommu_hwpt_set_dirty_tracking, hwpt_id)", "size.minimum size.below_minimum"),
    _main("table_missing", TABLE, "IOCTL_OP(IOMMU_IOAS_UNMAP, iommufd_ioas_unmap,"
          " struct iommu_ioas_unmap, length),", "", "number.defined"),
    # IOMMU_OPTION and objects
    _main("option_reserved", OPTION, "if (cmd->__reserved)", "if (0)",
          "option.reserved_before_option"),
    _main("option_unknown", OPTION, "default: return -EOPNOTSUPP;", "default: return 0;",
          "option.unknown"),
    _main("option_error", OPTION, "if (rc) return rc;", "",
          "option.rlimit_mode_value option.rlimit_mode_op option.rlimit_mode_busy"
          " option.huge_pages_value", "7.3"),
    _main("option_answer", OPTION, "return -EFAULT;", "{}",
          "read_only.asking read_only.changing"),
    _main("object_type", "iommufd_get_object",
          "(type != IOMMUFD_OBJ_ANY && obj->type != type) ||", "", "wrong_kind"),
    Mutant("respond_size", "min_t(size_t, ucmd->user_size, cmd_len)", "cmd_len",
           "answer.only_size", "iommufd_ucmd_respond", "6.12", "iommufd_private.h"),
    Mutant("rlimit_privilege", "if (!capable(CAP_SYS_RESOURCE))", "if (0)",
           "option.rlimit_mode_privilege", "iommufd_option_rlimit_mode", "6.12", "ioas.c"),
    Mutant("rlimit_object", "if (cmd->object_id)", "if (0)", "option.rlimit_mode_object",
           "iommufd_option_rlimit_mode", "6.12", "ioas.c"),
    Mutant("ioas_alloc_flags", "if (cmd->flags)", "if (0)", "unknown_flag",
           "iommufd_ioas_alloc_ioctl", "6.12", "ioas.c"),
    Mutant("allow_reserved", "if (cmd->__reserved)", "if (0)", "reserved_field",
           "iommufd_ioas_allow_iovas", "7.3", "ioas.c"),
)
