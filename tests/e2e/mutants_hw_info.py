# SPDX-License-Identifier: GPL-2.0-only
"""Checks of IOMMU_GET_HW_INFO that are removed, and the rules that notice."""

from functools import partial

from mutant import Mutant as _Mutant

Mutant = partial(_Mutant, function="iommufd_get_hw_info", file="device.c", spec="7.3")
# fmt: off
MUTANTS = (
    Mutant("flags", "if (cmd->flags & ~SUPPORTED_FLAGS)", "if (0)", "flags"),
    Mutant("reserved_0", "cmd->__reserved[0] ||", "", "reserved reserved.before_device"),
    Mutant("reserved_2", "|| cmd->__reserved[2]", "", "reserved"),
    Mutant("type_ignored", "cmd->in_data_type = IOMMU_HW_INFO_TYPE_DEFAULT;", ";",
           "type.ignored"),
    Mutant("device", "return PTR_ERR(idev);", "return -EINVAL;", "dev_id order.device"),
    Mutant("copy", "if (copy_to_user(user_ptr, data, copy_len))",
           "if (copy_to_user(user_ptr, data, copy_len) && 0)", "data.unwritable order.data"),
    Mutant("copy_length", "min(cmd->data_len, data_len)", "data_len", "data.none data.short"),
    Mutant("rest", "if (copy_len < cmd->data_len)", "if (0)",
           "data.long data.tail_unwritable data.huge_length"),
    Mutant("length", "cmd->data_len = data_len;", "", "data.none data.short data.long"),
    Mutant("capabilities", "cmd->out_capabilities = 0;", "", "capabilities.overwritten"),
    Mutant("put", "out_put: iommufd_put_object(ucmd->ictx, &idev->obj);", "out_put: ;",
           "holds_nothing"),
    Mutant("driver_type", "if (*type != IOMMU_HW_INFO_TYPE_DEFAULT &&",
           "if (0 && *type != IOMMU_HW_INFO_TYPE_DEFAULT &&", "type.unknown",
           function="mock_domain_hw_info", file="selftest.c"),
    Mutant("flags_6_12", "cmd->flags ||", "", "flags flags.input_type", spec="6.12"),
)
# fmt: on
