# SPDX-License-Identifier: GPL-2.0-only
"""Checks and bookkeeping of pinned pages that are removed, and the rules that notice."""

from mutant import Mutant

PAGES, TABLE = "pages.c", "io_pagetable.c"
PIN, FILL, FILL_ALL = "pfn_reader_user_pin", "iopt_area_fill_domain", "iopt_area_fill_domains"
UNFILL = "__iopt_area_unfill_domain"
ATTACH, ALIGNED = "iopt_table_add_domain", "iopt_check_iova_alignment"
# fmt: off
MUTANTS = (
    # pages.c: what may be pinned, and by whom
    Mutant("user_limit", "if (new_pages > lock_limit)", "if (0)",
           "limit.map limit.attach limit.access limit.two_processes", "incr_user_locked_vm",
           file=PAGES),
    Mutant("mm_limit", "pages->source_task, false);", "pages->source_task, true);",
           "limit.map limit.attach limit.access", "update_mm_locked_vm", file=PAGES),
    Mutant("privileged", "if (capable(CAP_IPC_LOCK))", "if (0)",
           "account.privileged account.who_maps", "iopt_alloc_pages", file=PAGES),
    Mutant("unprivileged", "if (capable(CAP_IPC_LOCK))", "if (1)", "limit.map account.mapped",
           "iopt_alloc_pages", file=PAGES),
    Mutant("writable", "if (pages->writable)", "if (0)", "domains.memory_gone",
           "pfn_reader_user_init", file=PAGES),
    Mutant("process_gone", "if (!mmget_not_zero(pages->source_mm)) return -EFAULT;",
           "if (!mmget_not_zero(pages->source_mm)) return -ENOMEM;",
           "process.gone_before_the_device process.copy_gone", PIN, file=PAGES),
    Mutant("own_space", "bool remote_mm = pages->source_mm != current->mm;",
           "bool remote_mm = false;", "process.own_space", PIN, file=PAGES),
    Mutant("counted_once", "atomic64_add(npages, &pages->source_mm->pinned_vm);", ";",
           "account.mapped account.privileged account.file", "iopt_pages_update_pinned", "7.3",
           PAGES),
    Mutant("dmabuf_length", "dmabuf->size <= (start + length - 1) ||", "", "dmabuf.beyond",
           "iopt_alloc_dmabuf_pages", "7.3", PAGES),
    Mutant("dmabuf_pin", "if (iopt_is_dmabuf(pages)) return -EINVAL;", "", "dmabuf.access",
           "iopt_area_add_access", "7.3", PAGES),
    # pages.c: which pages
    Mutant("part_of_a_page", "page_offset = area->page_offset;", "page_offset = 0;",
           "align.each", "batch_to_domain", file=PAGES),
    Mutant("partly_pinned", "pfn_reader_release_pins(&pfns);", "", "temp_limit.fails", FILL_ALL,
           file=PAGES),
    # pages.c: pages that areas and accesses share
    Mutant("other_areas", "if (span.is_used)", "if (span.is_used == 2)",
           "overlap.copies overlap.other_ioas account.once", UNFILL, file=PAGES),
    Mutant("accesses", "if (span.is_used)", "if (span.is_used == 1)", "access.device_goes", UNFILL,
           file=PAGES),
    Mutant("unmapped_before_unpinned", "if (domain == area->storage_domain) continue;", "",
           "overlap.mapped_twice", "void iopt_area_unfill_domains", "7.3", PAGES),
    Mutant("unpinned_by_the_last", "if (unmap_index != area->iopt->next_domain_id - 1)",
           "if (unmap_index != 0)", "domains.map_without_memory", "int iopt_area_fill_domains",
           file=PAGES),
    Mutant("unmapped_in_part", "if (unmap_index < index)", "if (unmap_index <= index)",
           "domains.map_without_memory", "int iopt_area_fill_domains", file=PAGES),
    # io_pagetable.c: devices that come and go. Which HWPT an area's pages are read from, of those
    # that are left, makes no difference.
    Mutant("area_iova", "(iopt_area_iova(area) & align_mask) ||", "", "domains.alignment", ALIGNED,
           file=TABLE),
    Mutant("area_length", "(iopt_area_length(area) & align_mask) ||", "", "domains.alignment",
           ALIGNED, file=TABLE),
    Mutant("area_offset", "|| (area->page_offset & align_mask)", "", "domains.alignment", ALIGNED,
           file=TABLE),
    Mutant("below", "if (geometry->aperture_start != 0)", "if (0)", "domains.aperture", ATTACH,
           file=TABLE),
    Mutant("above", "if (geometry->aperture_end != ULONG_MAX)", "if (0)", "domains.aperture",
           ATTACH, file=TABLE),
    Mutant("undone", "out_reserved: __iopt_remove_reserved_iova(iopt, domain);", "out_reserved:",
           "domains.memory_gone", ATTACH, file=TABLE),
    Mutant("storage", "if (area->storage_domain == domain)", "if (0)",
           "domains.go_in_any_order", "iopt_unfill_domain", file=TABLE),
    Mutant("storage_kept", "if (iopt->next_domain_id == 0) {", "if (1) {",
           "domains.second_without_memory", "iopt_fill_domain", file=TABLE),
    Mutant("storage_given_up", "if (iopt->next_domain_id == 0) {", "if (0) {",
           "domains.memory_gone", "iopt_fill_domain", file=TABLE),
    Mutant("refused_part", "if (area == end_area) break;", "", "domains.memory_gone",
           "iopt_fill_domain", file=TABLE),
    Mutant("first_of_the_rest", "if (index != iopt->next_domain_id)", "if (0)",
           "domains.go_in_any_order", "iopt_table_remove_domain", file=TABLE),
)
# fmt: on
