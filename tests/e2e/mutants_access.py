# SPDX-License-Identifier: GPL-2.0-only
"""Checks of accesses that are removed, and the rules that notice."""

from mutant import Mutant

DEVICE, PAGES, TABLE = "device.c", "pages.c", "io_pagetable.c"
# comments before the definitions name them, too
CHANGE = "iommufd_access_change_ioas"
PIN, RW = r"iommufd_access_pin_pages\(struct", r"iommufd_access_rw\(struct"
# fmt: off
MUTANTS = (
    Mutant("pin_length", "if (!length) return -EINVAL;", "", "pin.length_zero", PIN, file=DEVICE),
    Mutant("pin_wraps", "if (check_add_overflow(iova, length - 1, &last_iova))"
           " return -EOVERFLOW;", "last_iova = iova + length - 1;", "pin.wraps", PIN, file=DEVICE),
    Mutant("pin_aligned", "if (area->prevent_access || !iopt_area_contig_is_aligned(&iter))",
           "if (0)", "pin.unaligned", PIN, file=DEVICE),
    Mutant("pin_protection", "if (!check_area_prot(area, flags))", "if (0)", "pin.protection", PIN,
           file=DEVICE),
    Mutant("pin_hole", "if (!iopt_area_contig_done(&iter))", "if (0)", "pin.not_mapped", PIN,
           file=DEVICE),
    Mutant("pin_undone", "if (iova < iter.cur_iova)", "if (0)", "pin.hole pin.later_protection",
           PIN, file=DEVICE),
    Mutant("rw_wraps", "if (check_add_overflow(iova, length - 1, &last_iova))"
           " return -EOVERFLOW;", "last_iova = iova + length - 1;", "rw.wraps", RW, file=DEVICE),
    Mutant("rw_protection", "if (!check_area_prot(area, flags))", "if (0)", "rw.protection", RW,
           file=DEVICE),
    Mutant("rw_hole", "if (!iopt_area_contig_done(&iter))", "if (0)", "rw.not_mapped", RW,
           file=DEVICE),
    Mutant("holds", "refcount_inc(&new_ioas->obj.users);", "", "create.holds replace.moves",
           CHANGE, file=DEVICE),
    Mutant("refused", "access->ioas = cur_ioas; return rc;", "return rc;", "replace.refused_stays",
           CHANGE, file=DEVICE),
    Mutant("moving", "access->ioas = NULL;", "", "replace.meanwhile", CHANGE, file=DEVICE),
    Mutant("pin_prevented", "area->prevent_access ||", "", "pin.being_unmapped", PIN, file=DEVICE),
    Mutant("prevents", "area->prevent_access = true;", "", "pin.being_unmapped",
           "iopt_unmap_iova_range", file=TABLE),
    Mutant("unfinished", "if (!iter->area->pages) { iter->area = NULL; return NULL; }", "",
           "pin.being_mapped", "iopt_area_contig_init", file=TABLE),
    # who pins the same range once more shares the first one's record; it might have its own
    Mutant("shared_users", "access->users++;", "", "pin.shared", "iopt_area_add_access",
           file=PAGES),
    Mutant("shared_pages",
           "iopt_pages_fill_from_xarray(pages, start_index, last_index, out_pages);", ";",
           "pin.shared", "iopt_area_add_access", file=PAGES),
    Mutant("last_user", "if (access->users) goto out_unlock;", "", "pin.shared pin.unmap_all",
           "void iopt_area_remove_access", file=PAGES),
    Mutant("alignment", "new_iova_alignment = max_t(unsigned long, access->iova_alignment,"
           " new_iova_alignment);", ";", "pinning.alignment pinning.unaligned_map",
           "iopt_calculate_iova_alignment", file=TABLE),
    Mutant("unmap_asks", "if (area->num_accesses)", "if (0)", "pin.unmap", "iopt_unmap_iova_range",
           file=TABLE),
    Mutant("readonly_page", "(flags & IOMMUFD_ACCESS_RW_WRITE) ? FOLL_WRITE : 0", "0",
           "rw.memory_readonly", "iopt_pages_rw_page", file=PAGES),
    Mutant("read_fails",
           "if (copy_from_user(data, pages->uptr + start_byte, length)) rc = -EFAULT;",
           "if (copy_from_user(data, pages->uptr + start_byte, length)) rc = 0;",
           "rw.memory_gone", "iopt_pages_rw_access", file=PAGES),
    Mutant("undone_xarray", "iopt_pages_err_unpin(pages, start_index, cur_index - 1, out_pages);",
           ";", "pin.memory_gone", "iopt_pages_fill", "7.3", PAGES),
)
# fmt: on
