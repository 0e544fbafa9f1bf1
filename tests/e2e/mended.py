# SPDX-License-Identifier: GPL-2.0-only
"""Kernels with and without the known defects: edits and series that take them out, or bring them.

For each rule that has a defect, one of MENDED and MENDED_IN has a kernel on which it holds.
"""

from pathlib import Path

from mutant import Mutant

NEW = "7.3"
NESTING, INTEL = "7.3+vtd-nesting", "--iommufd-iommu=intel"
SERIES = Path(__file__).resolve().parent / "defects-mended"
"""For defects in parts of the kernel that are not in the module."""
# fmt: off
MENDED = (
    Mutant("pt_errno", "rc = -EINVAL; goto out_put_idev;", "rc = -ENOENT; goto out_put_idev;",
           "hwpt_alloc.pt_id.names_nothing hwpt_alloc.pt_id.high_bit hwpt_alloc.pt_id.destroyed "
           "hwpt_alloc.pt_id.destroyed_parent hwpt_alloc.pt_id.other_context "
           "hwpt_alloc.data.nested.leaks_nothing generic.divergence.hwpt_alloc_unknown_pt_id "
           "generic.divergence.hwpt_alloc_pt_id_of_another_context "
           "hwpt_type.selftest.alloc.pt.unknown hwpt_type.selftest.alloc.pt.destroyed "
           "hwpt_alloc.conflict.flag_and_pt_id hwpt_alloc.conflict.pt_id_and_unreadable_data "
           "hwpt_alloc.conflict.pt_id_and_oversized_data hwpt_alloc.conflict.pt_id_and_unwritable "
           "hwpt_alloc.order.nested.pt_id hwpt_alloc.order.paging.pt_id"),
    Mutant("pt_errno_of_viommu", "if (IS_ERR(pt_obj)) { rc = -EINVAL;",
           "if (IS_ERR(pt_obj)) { rc = -ENOENT;",
           "hwpt_alloc.viommu.destroyed hwpt_alloc.viommu.tombstone "
           "hwpt_alloc.order.viommu.pt_id", spec=NEW),
    Mutant("reserved2", "if (cmd->__reserved)", "if (cmd->__reserved || cmd->__reserved2)",
           "hwpt_alloc.reserved2 generic.divergence.hwpt_alloc_reserved2"),
    Mutant("set_reserved", "if (cmd->flags & ~IOMMU_HWPT_DIRTY_TRACKING_ENABLE)",
           "if (cmd->__reserved || cmd->flags & ~IOMMU_HWPT_DIRTY_TRACKING_ENABLE)",
           "dirty_tracking.set.reserved generic.divergence.set_dirty_tracking_reserved",
           "iommufd_hwpt_set_dirty_tracking", NEW),
    Mutant("dirty_result", "iova_bitmap_for_each(iter, &arg,",
           "ret = iova_bitmap_for_each(iter, &arg,",
           "dirty_tracking.get.last_iova dirty_tracking.get.unmapped dirty_tracking.get.hole "
           "dirty_tracking.get.hole.first dirty_tracking.get.outside",
           "iommu_read_and_clear_dirty", NEW, "io_pagetable.c"),
    Mutant("nested_slot", "inv.iotlb_id > MOCK_NESTED_DOMAIN_IOTLB_ID_MAX",
           "!(inv.flags & 1) && inv.iotlb_id > MOCK_NESTED_DOMAIN_IOTLB_ID_MAX",
           "invalidate.nested.slot_beyond_with_all", "mock_domain_cache_invalidate_user",
           file="selftest.c"),
    Mutant("viommu_cache", "cur->cache_id > MOCK_DEV_CACHE_ID_MAX",
           "!(cur->flags & 1) && cur->cache_id > MOCK_DEV_CACHE_ID_MAX",
           "invalidate.viommu.cache_beyond_with_all", "mock_viommu_cache_invalidate", NEW,
           "selftest.c"),
    Mutant("viommu_memory", "if (!cmds) return -ENOMEM;",
           "if (!cmds) { array->entry_num = 0; return -ENOMEM; }", "invalidate.viommu.no_memory",
           "mock_viommu_cache_invalidate", NEW, "selftest.c"),
    Mutant("viommu_reserved", "if (cmd->flags || cmd->type",
           "if (cmd->__reserved || cmd->flags || cmd->type",
           "viommu.reserved generic.divergence.viommu_alloc_reserved",
           "iommufd_viommu_alloc_ioctl", NEW, "viommu.c"),
    Mutant("veventq_type", "cmd->type == IOMMU_VEVENTQ_TYPE_DEFAULT)",
           "cmd->type == IOMMU_VEVENTQ_TYPE_DEFAULT || (cmd->type > "
           "IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV && cmd->type != 0xbeefbeef))", "veventq.type.any",
           "iommufd_veventq_alloc", NEW, "eventq.c"),
    Mutant("pasid_dirty", "int rc;",
           "int rc; if (domain->dirty_ops && (mdev->flags & MOCK_FLAGS_DEVICE_NO_DIRTY)) "
           "return -EINVAL;", "attach.pasid.no_dirty", "mock_domain_set_dev_pasid_nop", NEW,
           "selftest.c"),
    Mutant("map_flags", "map.flags & ~supported_flags)",
           "!map.flags || map.flags & ~supported_flags)",
           "vfio_compat.map.no_flags vfio_compat.map.no_flags_warns", "iommufd_vfio_map_dma", NEW,
           "vfio_compat.c"),
    Mutant("old_map_flags", "map.flags & ~supported_flags)",
           "!map.flags || map.flags & ~supported_flags)", "vfio_compat.map.no_flags_of_device",
           "iommufd_vfio_map_dma", file="vfio_compat.c"),
    Mutant("coherency", "if (IS_ERR(ioas)) return PTR_ERR(ioas);", "if (IS_ERR(ioas)) return 0;",
           "vfio_compat.extension.coherency_without_ioas", "iommufd_vfio_cc_iommu",
           file="vfio_compat.c"),
    Mutant("allow_one_byte", "range.start >= range.last", "range.start > range.last",
           "ioas.allow.one_byte", "iommufd_ioas_load_iovas", file="ioas.c"),
    Mutant("map_iova", "cmd->iova >= ULONG_MAX", "(cmd->flags & 1 && cmd->iova >= ULONG_MAX)",
           "ioas.map.last_iova.automatic", "iommufd_ioas_map", file="ioas.c"),
    Mutant("copy_iova", "cmd->dst_iova >= ULONG_MAX)",
           "(cmd->flags & 1 && cmd->dst_iova >= ULONG_MAX))", "ioas.copy.largest.automatic",
           "iommufd_ioas_copy", file="ioas.c"),
    Mutant("map_file_iova", "cmd->iova >= ULONG_MAX",
           "(cmd->flags & 1 && cmd->iova >= ULONG_MAX)", "ioas.map_file.largest.automatic",
           "iommufd_ioas_map_file", NEW, "ioas.c"),
    Mutant("map_file_sealed", "if (!file) return -EBADF;",
           "if (!file) return -EBADF; if (iommu_prot & IOMMU_WRITE) { "
           "if (mapping_map_writable(file->f_mapping)) { fput(file); return -EPERM; } "
           "mapping_unmap_writable(file->f_mapping); }", "ioas.map_file.sealed",
           "iopt_map_file_pages", NEW, "io_pagetable.c"),
    Mutant("change_uncounted", "case IOPT_PAGES_ACCOUNT_NONE: return false;",
           "case IOPT_PAGES_ACCOUNT_NONE: return pages->source_mm != current->mm;",
           "ioas.change_process.uncounted ioas.change_process.uncounted.unmapped_later",
           "need_charge_update", NEW, "ioas.c"),
    Mutant("unreserve_kept", "err_unresv: if (attach_resv)",
           "err_unresv: old_hwpt_paging = find_hwpt_paging(old_hwpt); if (attach_resv && "
           "(!old_hwpt_paging || old_hwpt_paging->ioas != hwpt_paging->ioas))",
           "vfio_device.reserved.replace.failed vfio_device.nested.attach.failed_replace",
           "iommufd_device_do_replace", NESTING, "device.c", INTEL),
)
"""Edits after which the rules hold."""
# fmt: on
MENDED_IN = {
    "6.12+hwpt-alloc-v2-review": "hwpt_alloc.data.nested.unknown_type "
    "hwpt_alloc.data.nested.unknown_type.no_warning hwpt_alloc.data.paging.unknown_type "
    "hwpt_alloc.conflict.unknown_type_and_pointer "
    "hwpt_alloc.conflict.unknown_type_and_plain_parent",
    f"{NESTING}+{SERIES}": "dirty_tracking.get.entry.begins_before "
    "dirty_tracking.get.entry.ends_behind dirty_tracking.get.unwritable "
    "dirty_tracking.get.unwritable.forgotten dirty_tracking.get.unwritable.no_clear "
    "dirty_tracking.get.unwritable.part vfio_device.nested.flags.unknown "
    "vfio_device.nested.reserved vfio_device.dma.failed_replace vfio_device.nested.pasid "
    "vfio_device.hwpt_alloc.pasid",
}
"""By kernel: rules that hold there as it is, with spaces between."""
SHOWN_IN = {"6.12": "", NESTING: INTEL}
"""Kernels, with their options, that show what their release was seen with."""
