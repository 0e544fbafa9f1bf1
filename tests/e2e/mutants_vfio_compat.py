# SPDX-License-Identifier: GPL-2.0-only
"""Checks of VFIO's ioctls on /dev/iommu that are removed, and the rules that notice."""

from mutant import Mutant

FILE = "vfio_compat.c"
IOAS, MAP, UNMAP = "iommufd_vfio_ioas", "iommufd_vfio_map_dma", "iommufd_vfio_unmap_dma"
INFO, SET, EXT = "iommufd_vfio_iommu_get_info", "iommufd_vfio_set_iommu", "iommufd_vfio_cc_iommu"
CHECK = "iommufd_vfio_check_extension"
SPLIT, TABLE = "iopt_area_split", ("7.3", "io_pagetable.c")
RANGES, AVAIL = "iommufd_fill_cap_iova", "iommufd_fill_cap_dma_avail"


def _mutant(name: str, function: str, old: str, new: str, rules: str, spec: str = "6.12") -> Mutant:
    return Mutant(name, old, new, rules, function, spec, FILE)


# fmt: off
MUTANTS = (
    _mutant("ioas_reserved", IOAS, "if (cmd->__reserved)", "if (0)",
            "ioas.reserved ioas.reserved_first"),
    _mutant("ioas_get_errno", "get_compat_ioas", "ERR_PTR(-ENODEV)", "ERR_PTR(-ENOENT)",
            "ioas.none ioas.cleared map.without_ioas unmap.without_ioas info.without_ioas", "7.3"),
    _mutant("ioas_clear", IOAS, "ucmd->ictx->vfio_ioas = NULL;", "", "ioas.cleared"),
    _mutant("ioas_op", IOAS, "default: return -EOPNOTSUPP;", "default: return 0;",
            "ioas.unknown_op"),
    _mutant("map_argsz", MAP, "map.argsz < minsz ||", "", "map.argsz map.checked_first"),
    _mutant("map_flags", MAP, "|| map.flags & ~supported_flags", "",
            "map.unknown_flag map.checked_first", "7.3"),
    _mutant("map_write", MAP, "iommu_prot |= IOMMU_WRITE;", "iommu_prot |= 0;", "map.protection"),
    _mutant("map_anywhere", MAP, "iommu_prot, 0);", "iommu_prot, IOPT_ALLOC_IOVA);",
            "map.iova_kept map.outside"),
    _mutant("map_copy", MAP, "if (copy_from_user(&map, arg, minsz)) return -EFAULT;",
            "if (copy_from_user(&map, arg, minsz)) return -EINVAL;", "map.pointer"),
    _mutant("unmap_argsz", UNMAP, "unmap.argsz < minsz ||", "", "unmap.argsz unmap.checked_first"),
    _mutant("unmap_flags", UNMAP, "|| unmap.flags & ~supported_flags", "",
            "unmap.unknown_flag unmap.checked_first unmap.dirty_bitmap"),
    _mutant("unmap_dirty", UNMAP, "supported_flags = VFIO_DMA_UNMAP_FLAG_ALL",
            "supported_flags = VFIO_DMA_UNMAP_FLAG_ALL | 1", "unmap.dirty_bitmap", "7.3"),
    _mutant("unmap_all_operands", UNMAP, "if (unmap.iova != 0 || unmap.size != 0)", "if (0)",
            "unmap.all_operands"),
    _mutant("unmap_cut", UNMAP, "if (READ_ONCE(ioas->iopt.disable_large_pages))", "if (0)",
            "unmap.split_type1 unmap.split_at_zero unmap.split_huge unmap.split_misaligned"
            " unmap.split_pinned"),
    _mutant("unmap_cut_always", UNMAP, "if (READ_ONCE(ioas->iopt.disable_large_pages))", "if (1)",
            "unmap.split_type1v2 unmap.split_huge_type1v2"),
    _mutant("unmap_size", UNMAP, "unmap.size = unmapped;", "", "unmap.empty unmap.all"),
    _mutant("unmap_write", UNMAP, "rc = -EFAULT;", "rc = 0;", "unmap.unwritable"),
    _mutant("unmap_cut_error", UNMAP, "if (rc) goto err_put;", "",
            "unmap.split_misaligned unmap.split_pinned"),
    _mutant("coherency", EXT, "rc = 0; break;", "break;",
            "extension.coherency_of_mock_device"),
    _mutant("extension_default", CHECK, "default: return 0;", "default: return 1;",
            "extension.lacking"),
    _mutant("set_iommu_type", SET, "(type != VFIO_TYPE1_IOMMU && type != VFIO_TYPE1v2_IOMMU) ||",
            "", "set_iommu.unknown set_iommu.unknown_first"),
    _mutant("set_iommu_type1", SET, "if (type == VFIO_TYPE1_IOMMU)", "if (0)",
            "set_iommu.type1 set_iommu.type1_with_mappings", "7.3"),
    _mutant("set_iommu_always", SET, "if (type == VFIO_TYPE1_IOMMU)", "",
            "set_iommu.type1v2 set_iommu.type1v2_with_mappings"),
    _mutant("info_argsz", INFO, "if (info.argsz < minsz) return -EINVAL;", "",
            "info.argsz info.argsz_first"),
    _mutant("info_least", INFO, "minsz = min_t(size_t, info.argsz, sizeof(info));",
            "minsz = sizeof(info);", "info.within_argsz"),
    _mutant("info_cap_offset", INFO, "if (info.argsz >= total_cap_size) info.cap_offset",
            "info.cap_offset", "info.cap_offset"),
    _mutant("info_next", INFO, "put_user(total_cap_size, &last_cap->next)", "0",
            "info.capabilities info.ranges"),
    _mutant("info_whole", INFO, "info.argsz > total_cap_size", "info.argsz >= 0",
            "info.within_argsz", "7.3"),
    _mutant("info_avail", AVAIL, "avail >= sizeof(cap_dma) &&", "", "info.within_argsz"),
    _mutant("info_ranges", RANGES,
            "if (avail >= struct_size(&cap_iovas, iova_ranges, cap_iovas.nr_iovas) &&", "if (",
            "info.within_argsz"),
    _mutant("info_reserved", RANGES, "if (!span.is_hole) continue;", "",
            "info.ranges_of_device info.needed"),
    _mutant("info_page_sizes", "iommufd_get_pagesizes",
            "pgsize_bitmap &= PAGE_MASK; pgsize_bitmap |= PAGE_SIZE;", "",
            "info.page_sizes info.page_sizes_of_device"),
    # what unmapping finds
    Mutant("area_locked", "if (area->num_locks)", "if (0)", "unmap.hw_queue",
           "iopt_unmap_iova_range", *TABLE),
    Mutant("area_being_built", "if (!area->pages) { rc = -EBUSY;", "if (!area->pages) { rc = 0;",
           "unmap.during_map", "iopt_unmap_iova_range", *TABLE),
    Mutant("split_dmabuf", "return -EOPNOTSUPP;", ";", "unmap.split_dmabuf", SPLIT, *TABLE),
    Mutant("split_being_built", "if (!pages || area->prevent_access) return -EBUSY;",
           "if (area->prevent_access) return -EBUSY;", "unmap.split_during_map", SPLIT, *TABLE),
)
