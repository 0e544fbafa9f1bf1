# SPDX-License-Identifier: GPL-2.0-only
"""Checks of IOMMU_VDEVICE_ALLOC that are removed, and the rules that notice."""

from mutant import Mutant

CALL, ABORT = "iommufd_vdevice_alloc_ioctl", "iommufd_vdevice_abort"
ON = ("7.3", "viommu.c")
# fmt: off
MUTANTS = (
    Mutant("twice", "if (idev->vdev)", "if (0)", "device.twice.other_viommu", CALL, *ON),
    Mutant("foreign_virt_id",
           "xa_cmpxchg(&viommu->vdevs, vdev->virt_id, vdev, NULL, GFP_KERNEL);",
           "xa_erase(&viommu->vdevs, vdev->virt_id);", "virt_id.taken", ABORT, *ON),
)
# fmt: on
