# SPDX-License-Identifier: GPL-2.0-only
"""Checks of IOMMU_IOAS_* and IOMMU_OPTION that are removed, and the rules that notice."""

from mutant import Mutant

IOAS, TABLE = "ioas.c", "io_pagetable.c"
MAP, COPY, UNMAP = "iommufd_ioas_map", "iommufd_ioas_copy", "iommufd_ioas_unmap"
MAP_FILE, CHANGE = "iommufd_ioas_map_file", "iommufd_ioas_change_process"
RANGES, ALLOW = "iommufd_ioas_iova_ranges", "iommufd_ioas_allow_iovas"
LOAD, RLIMIT = "iommufd_ioas_load_iovas", "iommufd_option_rlimit_mode"
CHECK, ALLOC, INSERT = "iopt_check_iova", "iopt_alloc_iova", "iopt_insert_area"
RANGE, PAGES = "iopt_unmap_iova_range", "iopt_get_pages"
# fmt: off
MUTANTS = (
    # arguments, in ioas.c
    Mutant("alloc_flags", "if (cmd->flags)", "if (0)", "alloc.flags alloc.out_id_kept",
           "iommufd_ioas_alloc_ioctl", file=IOAS),
    Mutant("alloc_respond", "if (rc) goto out_table;", "", "alloc.unwritable",
           "iommufd_ioas_alloc_ioctl", file=IOAS),
    Mutant("ranges_reserved", "if (cmd->__reserved)", "if (0)", "ranges.reserved", RANGES,
           file=IOAS),
    Mutant("ranges_room", "if (cmd->num_iovas > max_iovas)", "if (0)",
           "ranges.too_small ranges.no_array", RANGES, file=IOAS),
    Mutant("ranges_beyond", "if (cmd->num_iovas < max_iovas)", "if (1)", "ranges.too_small",
           RANGES, file=IOAS),
    Mutant("allow_reserved", "if (cmd->__reserved)", "if (0)", "allow.reserved", ALLOW,
           file=IOAS),
    Mutant("allow_order", "range.start >= range.last", "range.start > range.last", "allow.order",
           LOAD, file=IOAS),
    Mutant("allow_overlap", "if (interval_tree_iter_first(itree, range.start, range.last))",
           "if (0)", "allow.overlap", LOAD, file=IOAS),
    Mutant("map_flags", "(cmd->flags & ~(IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_WRITEABLE |"
           " IOMMU_IOAS_MAP_READABLE)) ||", "", "map.flags", MAP, file=IOAS),
    Mutant("map_reserved", "|| cmd->__reserved)", ")", "map.reserved", MAP, file=IOAS),
    Mutant("map_largest", "cmd->iova >= ULONG_MAX || cmd->length >= ULONG_MAX", "0",
           "map.last_iova map.length_all", MAP, file=IOAS),
    Mutant("map_protection", "(IOMMU_IOAS_MAP_WRITEABLE | IOMMU_IOAS_MAP_READABLE)))",
           "IOMMU_IOAS_MAP_WRITEABLE) && 0)", "map.protection", MAP, file=IOAS),
    Mutant("map_file_flags", "~(IOMMU_IOAS_MAP_FIXED_IOVA |", "~(cmd->flags |", "map_file.flags",
           MAP_FILE, "7.3", IOAS),
    Mutant("map_file_largest", "cmd->iova >= ULONG_MAX || cmd->length >= ULONG_MAX", "0",
           "map_file.largest", MAP_FILE, "7.3", IOAS),
    Mutant("copy_largest", "|| cmd->dst_iova >= ULONG_MAX)", ")", "copy.largest", COPY, file=IOAS),
    Mutant("copy_source", "if (IS_ERR(src_ioas)) return PTR_ERR(src_ioas);",
           "if (IS_ERR(src_ioas)) return -EINVAL;", "copy.source_id", COPY, file=IOAS),
    Mutant("unmap_largest", "cmd->iova >= ULONG_MAX || cmd->length >= ULONG_MAX", "0",
           "unmap.extremes", UNMAP, file=IOAS),
    Mutant("unmap_nothing", "if (!unmapped)", "if (0)",
           "unmap.nothing unmap.nothing_at_all unmap.twice", UNMAP, file=IOAS),
    Mutant("change_reserved", "if (cmd->__reserved)", "if (0)", "change_process.reserved", CHANGE,
           "7.3", IOAS),
    Mutant("change_memory", "if (area->pages->type != IOPT_ADDRESS_FILE)", "if (0)",
           "change_process.memory change_process.refused", CHANGE, "7.3", IOAS),
    Mutant("change_charge", "rc = charge_current(all_npinned);", "rc = 0;",
           "change_process.moves change_process.limit", CHANGE, "7.3", IOAS),
    Mutant("change_count_twice", "pages->last_npinned = 0;", "", "change_process.copies", CHANGE,
           "7.3", IOAS),
    Mutant("rlimit_object", "if (cmd->object_id)", "if (0)", "option.rlimit_mode.object_id",
           RLIMIT, file=IOAS),
    Mutant("rlimit_privilege", "if (!capable(CAP_SYS_RESOURCE))", "if (0)",
           "option.rlimit_mode.privilege", RLIMIT, file=IOAS),
    Mutant("rlimit_busy", "if (!xa_empty(&ictx->objects))", "if (0)", "option.rlimit_mode.busy",
           RLIMIT, file=IOAS),
    Mutant("huge_value", "if (cmd->val64 == 1)", "if (cmd->val64)", "option.huge_pages.value",
           "iommufd_ioas_option_huge_pages", file=IOAS),
    # where things may be, in io_pagetable.c
    Mutant("iova_aligned", "if ((iova & (iopt->iova_alignment - 1)))", "if (0)",
           "option.huge_pages.then_unaligned", CHECK, file=TABLE),
    Mutant("iova_reserved", "if (iopt_reserved_iter_first(iopt, iova, last))", "if (0)",
           "map.reserved_iova", CHECK, file=TABLE),
    Mutant("iova_occupied", "if (iopt_area_iter_first(iopt, iova, last))", "if (0)",
           "map.occupied copy.occupied", CHECK, file=TABLE),
    Mutant("automatic_huge", "length >= ULONG_MAX / 2", "0", "map.automatic_huge", ALLOC,
           file=TABLE),
    Mutant("automatic_aligned", "if (iova_alignment < iopt->iova_alignment)", "if (0)",
           "map.unaligned_automatic", ALLOC, file=TABLE),
    Mutant("automatic_room", "if (!__alloc_iova_check_used(&allowed_span, length,"
           " iova_alignment, page_offset)) continue;", "", "map.no_room allow.too_small", ALLOC,
           file=TABLE),
    Mutant("insert_writable", "if ((iommu_prot & IOMMU_WRITE) && !pages->writable)", "if (0)",
           "copy.readonly", INSERT, file=TABLE),
    Mutant("insert_aligned", "if (area->page_offset & (iopt->iova_alignment - 1))", "if (0)",
           "option.huge_pages.then_unaligned", INSERT, file=TABLE),
    Mutant("length_aligned", "(length & (iopt->iova_alignment - 1)) || !length", "!length",
           "option.huge_pages.then_unaligned", "iopt_alloc_area_pages", file=TABLE),
    Mutant("file_length", "if (!length) return -EINVAL;", "", "order.map_file.length",
           "iopt_map_file_pages", "7.3", TABLE),
    Mutant("copy_length", "if (!length) return -EINVAL;", "", "copy.length_zero", PAGES,
           file=TABLE),
    Mutant("copy_hole", "if (!iopt_area_contig_done(&iter))", "if (0)", "copy.hole", PAGES,
           file=TABLE),
    Mutant("contiguous", "iter->cur_iova != iopt_area_iova(iter->area) ||", "", "copy.hole",
           "iopt_area_contig_next", file=TABLE),
    Mutant("unmap_splits", "if (area_first < start || area_last > last)", "if (0)",
           "unmap.splits unmap.splits_later", RANGE, file=TABLE),
    Mutant("allow_in_use", "if (iopt_reserved_iter_first(iopt, allowed->node.start,"
           " allowed->node.last))", "if (0)", "allow.reserved_iova allow.aperture",
           "iopt_set_allow_iova", file=TABLE),
    Mutant("allow_kept", "swap(*allowed_iova, iopt->allowed_itree); up_write",
           "up_write", "allow.old_list", "iopt_set_allow_iova", file=TABLE),
    Mutant("reserve_area", "iopt_area_iter_first(iopt, start, last) ||", "",
           "add_reserved.in_use", "iopt_reserve_iova", file=TABLE),
    Mutant("huge_pinned", "if (!xa_empty(&iopt->domains) &&"
           " !RB_EMPTY_ROOT(&iopt->area_itree.rb_root))", "if (0)", "option.huge_pages.pinned",
           "iopt_disable_large_pages", file=TABLE),
    Mutant("huge_undone", "if (rc) WRITE_ONCE(iopt->disable_large_pages, false);", "",
           "option.huge_pages.unaligned_area", "iopt_disable_large_pages", file=TABLE),
)
# fmt: on
