# SPDX-License-Identifier: GPL-2.0-only
"""Edits that take a known defect out of the kernel, and the rules that then hold."""

from mutant import Mutant

NEW = "7.3"
DIRTY = "iommu_read_and_clear_dirty"
# fmt: off
MENDED = (
    ("hwpt_alloc", Mutant(
        "pt_errno", "rc = -EINVAL; goto out_put_idev;", "rc = -ENOENT; goto out_put_idev;",
        "pt_id.names_nothing pt_id.high_bit pt_id.destroyed pt_id.destroyed_parent "
        "pt_id.other_context")),
    ("generic", Mutant(
        "hwpt_reserved2", "if (cmd->__reserved)", "if (cmd->__reserved || cmd->__reserved2)",
        "divergence.hwpt_alloc_reserved2")),
    ("invalidate", Mutant(
        "nested_slot", "inv.iotlb_id > MOCK_NESTED_DOMAIN_IOTLB_ID_MAX",
        "!(inv.flags & 1) && inv.iotlb_id > MOCK_NESTED_DOMAIN_IOTLB_ID_MAX",
        "nested.slot_beyond_with_all", "mock_domain_cache_invalidate_user", file="selftest.c")),
    ("invalidate", Mutant(
        "viommu_cache", "cur->cache_id > MOCK_DEV_CACHE_ID_MAX",
        "!(cur->flags & 1) && cur->cache_id > MOCK_DEV_CACHE_ID_MAX",
        "viommu.cache_beyond_with_all", "mock_viommu_cache_invalidate", NEW, "selftest.c")),
    ("generic", Mutant(
        "viommu_reserved", "if (cmd->flags || cmd->type",
        "if (cmd->__reserved || cmd->flags || cmd->type", "divergence.viommu_alloc_reserved",
        "iommufd_viommu_alloc_ioctl", NEW, "viommu.c")),
    ("dirty_tracking", Mutant(
        "result", "iova_bitmap_for_each(iter, &arg,", "ret = iova_bitmap_for_each(iter, &arg,",
        "get.last_iova get.unmapped get.hole get.hole.first get.outside", DIRTY, NEW,
        "io_pagetable.c")),
    ("dirty_tracking", Mutant(
        "set_reserved", "if (cmd->flags & ~IOMMU_HWPT_DIRTY_TRACKING_ENABLE)",
        "if (cmd->__reserved || cmd->flags & ~IOMMU_HWPT_DIRTY_TRACKING_ENABLE)", "set.reserved",
        "iommufd_hwpt_set_dirty_tracking", NEW)),
    ("vfio_compat", Mutant(
        "map_flags", "map.flags & ~supported_flags)",
        "!map.flags || map.flags & ~supported_flags)", "map.no_flags map.no_flags_warns",
        "iommufd_vfio_map_dma", NEW, "vfio_compat.c")),
)
# fmt: on
