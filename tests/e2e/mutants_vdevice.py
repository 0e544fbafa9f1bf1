# SPDX-License-Identifier: GPL-2.0-only
"""Checks of IOMMU_VDEVICE_ALLOC that are removed, and the rules that notice."""

from mutant import Mutant

CALL, ABORT = "iommufd_vdevice_alloc_ioctl", "iommufd_vdevice_abort"
ATTACH = "mock_domain_nop_attach"
FIND = "iommufd_viommu_get_vdev_id"
ON, DRIVER, MOCK = ("7.3", "viommu.c"), ("7.3", "driver.c"), ("7.3", "selftest.c")
# fmt: off
MUTANTS = (
    Mutant("viommu", "return PTR_ERR(viommu);", "return -EINVAL;",
           "viommu_id.names_nothing viommu_id.other_type viommu_id.before_device", CALL, *ON),
    Mutant("device", "rc = PTR_ERR(idev);", "rc = -EINVAL;",
           "dev_id.names_nothing dev_id.other_type dev_id.other_context", CALL, *ON),
    Mutant("twice", "if (idev->vdev)", "if (0)", "device.twice.other_viommu", CALL, *ON),
    Mutant("viommu_users", "refcount_inc(&viommu->obj.users);", "", "lifetime.viommu", CALL, *ON),
    Mutant("taken", "rc = -EEXIST; goto out_abort;", "rc = 0; (void)0;", "virt_id.taken", CALL,
           *ON),
    Mutant("taken_errno", "if (rc == -EBUSY) rc = -EEXIST;", "", "virt_id.taken", CALL, *ON),
    Mutant("cut_virt_id", "vdev->virt_id = virt_id;", "vdev->virt_id = virt_id = (u32)virt_id;",
           "virt_id.all_bits", CALL, *ON),
    Mutant("respond", "if (rc) goto out_abort; iommufd_object_finalize",
           "iommufd_object_finalize", "undone.unwritable undone.device_may_go", CALL, *ON),
    Mutant("forgotten_virt_id",
           "xa_cmpxchg(&viommu->vdevs, vdev->virt_id, vdev, NULL, GFP_KERNEL);", "",
           "virt_id.again tombstone.virt_id undone.unwritable", ABORT, *ON),
    Mutant("foreign_virt_id",
           "xa_cmpxchg(&viommu->vdevs, vdev->virt_id, vdev, NULL, GFP_KERNEL);",
           "xa_erase(&viommu->vdevs, vdev->virt_id);", "virt_id.taken", ABORT, *ON),
    Mutant("viommu_put", "refcount_dec(&viommu->obj.users);", "",
           "lifetime.viommu tombstone.viommu", ABORT, *ON),
    Mutant("device_again", "idev->vdev = NULL;", "", "device.again", ABORT, *ON),
    # what drivers call
    Mutant("not_found", "int rc = -ENOENT;", "int rc = 0;", "attach.without attach.other_viommu",
           FIND, *DRIVER),
    Mutant("of_any_device", "if (iommufd_vdevice_to_device(vdev) == dev)", "if (1)",
           "attach.sibling", FIND, *DRIVER),
    # the mock driver's
    Mutant("attach", "if (rc) return rc; } } if (new_viommu", "} } if (new_viommu",
           "attach.without attach.other_viommu attach.destroyed_meanwhile", ATTACH, *MOCK),
)
# fmt: on
