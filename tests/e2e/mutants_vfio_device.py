# SPDX-License-Identifier: GPL-2.0-only
"""Checks of iommufd that only a real device reaches, removed, and the rules that notice.

The drivers of VT-d and AMD are not among them: they are built in, so that an edit takes an image.
"""

from functools import partial

from mutant import Mutant

ATTACH = "iommufd_hw_pagetable_attach"
DETACH = "iommufd_hw_pagetable_detach"
REPLACE = "iommufd_device_do_replace"
INTEL, AMD = "--iommufd-iommu=intel", "--iommufd-iommu=amd"
DEVICE = partial(Mutant, spec="7.3", file="device.c", options=INTEL)
# fmt: off
MUTANTS = (
    DEVICE("isolation", "if (!allow_unsafe_interrupts)", "if (0)", "bind.isolation",
           "iommufd_bind_iommu", options=AMD),
    DEVICE("claim", "rc = iommu_device_claim_dma_owner(dev, ictx);", "rc = 0;",
           "group.other_context", "iommufd_bind_iommu"),
    DEVICE("device_users", "refcount_inc(&idev->obj.users);", "", "lifetime.destroy",
           "iommufd_device_bind"),
    Mutant("not_iommufd", "return ERR_PTR(-EBADFD);", "return ERR_PTR(-EINVAL);",
           "bind.iommufd.other", "iommufd_ctx_from_fd", "7.3", "main.c", INTEL),
    # a group of devices
    DEVICE("group_hwpt", "if (old_hwpt && old_hwpt != hwpt)", "if (0)",
           "group.other_ioas group.other_hwpt", ATTACH),
    DEVICE("group_leaves", "if (xa_empty(&attach->device_array))", "if (1)", "group.stays", DETACH),
    DEVICE("group_users", "refcount_add(num_devices,", "refcount_add(1,", "group.replace", REPLACE),
    # what is reserved
    Mutant("reserve", "rc = iopt_reserve_iova(iopt, resv->start, resv->length - 1 + resv->start, "
           "dev);", "rc = 0;",
           "reserved.msi reserved.map reserved.mapped reserved.allowed reserved.automatic",
           "iopt_table_enforce_dev_resv_regions", "7.3", "io_pagetable.c", INTEL),
    DEVICE("unreserve", "iopt_remove_reserved_iova(&hwpt_paging->ioas->iopt, idev->dev);", ";",
           "reserved.detached reserved.closed reserved.two", DETACH),
    DEVICE("unreserve_failed",
           "err_unresv: if (attach_resv)", "err_unresv: if (0)",
           "hwpt_alloc.fault_id.unreserved", ATTACH),
    DEVICE("reserve_replaced",
           "if (!old_hwpt_paging || hwpt_paging->ioas != old_hwpt_paging->ioas)", "if (0)",
           "reserved.replace", "iommufd_group_do_replace_reserved_iova"),
    DEVICE("unreserve_replaced", "iommufd_group_remove_reserved_iova(igroup, old_hwpt_paging);",
           ";", "reserved.replace", REPLACE),
    DEVICE("unreserve_kept", "(!hwpt_paging || hwpt_paging->ioas != old_hwpt_paging->ioas)",
           "(1)", "reserved.replace.same_ioas", REPLACE),
    DEVICE("unreserve_not_replaced",
           "err_unresv: if (attach_resv)", "err_unresv: if (0)",
           "reserved.replace.failed.other_ioas", REPLACE),
    # page tables of drivers
    Mutant("coherency", "if (idev->enforce_cache_coherency)", "if (0)", "coherency.enforced",
           "iommufd_hwpt_paging_alloc", "7.3", options=INTEL),
    Mutant("parent_owner", "parent->common.domain->owner != ops", "0",
           "hwpt_alloc.parent.other_driver", "iommufd_hwpt_nested_alloc", "7.3", options=INTEL),
    DEVICE("other_driver", "if (PTR_ERR(destroy_hwpt) == -EINVAL) continue;", "",
           "attach.ioas.other_driver", "iommufd_device_auto_get_domain"),
    DEVICE("pasid_compat", "struct iommufd_attach *attach; if (!hwpt->pasid_compat)",
           "struct iommufd_attach *attach; if (0)", "attach.pasid.flag",
           "iommufd_hwpt_pasid_compat"),
)
# fmt: on
