# SPDX-License-Identifier: GPL-2.0-only
"""The types that Linux has, as its drivers take them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_iommufd.hwpt_types.declaration import Event, HwptType, Invalidation, ViommuType
from pytest_iommufd.hwpt_types.values import AnyValue, Bits, OneOf, Reserved, Within

if TYPE_CHECKING:
    from pytest_iommufd.iommufd import Hwpt

# Any value but the mock driver's default for its IOTLB entries.
SAMPLE_IOTLB = 0x5EED
VIRT_ID = 0x99
_ALL = "IOMMU_TEST_INVALIDATE_FLAG_ALL"
_U64 = (1 << 64) - 1
# What user space may set in the second word of a stream table entry, which must not ask for ATS
# with split stages (STRTAB_STE_1_NESTING_ALLOWED and STRTAB_STE_1_EATS of arm-smmu-v3.h).
_STE_1 = 0xFF | 1 << 27 | 1 << 28
# What must be 0 in the first word of a device table entry (Mode and Host TRP of amd_iommu_types.h),
# besides what a table of guest pages is told by.
_DTE_0_ZERO = 0x7 << 9 | 0xFF_FFFF_FFFF << 12
_DTE_0_TABLE = 1 | 1 << 55 | 3 << 56


def _has_iotlb(hwpt: Hwpt, data: Any) -> None:
    __tracebackhide__ = True
    hwpt.check_iotlb(0, data.iotlb)


# As __mock_domain_alloc_nested(), mock_domain_cache_invalidate_user() and
# mock_viommu_cache_invalidate() of selftest.c have it.
SELFTEST = HwptType(
    name="selftest",
    data_type="IOMMU_HWPT_DATA_SELFTEST",
    struct="iommu_hwpt_selftest",
    sample={"iotlb": SAMPLE_IOTLB},
    fields={"iotlb": AnyValue(), "pagetable_type": AnyValue()},
    minimum="iotlb",
    of_ioas="",  # it says which page tables the HWPT gets
    flags=("IOMMU_HWPT_ALLOC_PASID",),
    reaches=_has_iotlb,
    invalidation=Invalidation(
        data_type="IOMMU_HWPT_INVALIDATE_DATA_SELFTEST",
        struct="iommu_hwpt_invalidate_selftest",
        sample={"iotlb_id": 1},
        fields={"flags": Bits(_ALL), "iotlb_id": Within(0, "MOCK_NESTED_DOMAIN_IOTLB_ID_MAX")},
    ),
    viommu=ViommuType(
        type="IOMMU_VIOMMU_TYPE_SELFTEST",
        virt_id=VIRT_ID,
        invalidation=Invalidation(
            data_type="IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST",
            struct="iommu_viommu_invalidate_selftest",
            sample={"vdev_id": VIRT_ID, "cache_id": 1},
            fields={
                "flags": Bits(_ALL),
                "vdev_id": OneOf(VIRT_ID),
                "cache_id": Within(0, "MOCK_DEV_CACHE_ID_MAX"),
            },
        ),
        event=Event(
            data_type="IOMMU_VEVENTQ_TYPE_SELFTEST",
            struct="iommu_viommu_event_selftest",
            sample={"virt_id": VIRT_ID},
        ),
    ),
)

# As the header and intel_nested_cache_invalidate_user() of intel/nested.c have it.
VTD_S1 = HwptType(
    name="vtd_s1",
    data_type="IOMMU_HWPT_DATA_VTD_S1",
    struct="iommu_hwpt_vtd_s1",
    sample={"pgtbl_addr": 0x1000, "addr_width": 48},
    fields={
        "flags": Bits(
            *("IOMMU_VTD_S1_SRE", "IOMMU_VTD_S1_EAFE", "IOMMU_VTD_S1_WPE"),
            defect="intel_iommu_domain_alloc_nested() does not check flags",
        ),
        "__reserved": Reserved(
            defect="intel_iommu_domain_alloc_nested() does not check __reserved"
        ),
    },
    flags=("IOMMU_HWPT_ALLOC_PASID",),
    device="vfio",
    hw_info="IOMMU_HW_INFO_TYPE_INTEL_VTD",
    invalidation=Invalidation(
        data_type="IOMMU_HWPT_INVALIDATE_DATA_VTD_S1",
        struct="iommu_hwpt_vtd_s1_invalidate",
        sample={"addr": 0x1000, "npages": 1},
        fields={
            "flags": Bits("IOMMU_VTD_INV_FLAGS_LEAF"),
            "addr": Bits(_U64 & ~0xFFF, errno="EINVAL"),
        },
    ),
)

# arm-smmu-v3-iommufd.c: arm_vsmmu_alloc_domain_nested(), arm_smmu_validate_vste(). The sample is
# an entry that bypasses stage 1.
ARM_SMMUV3 = HwptType(
    name="arm_smmuv3",
    data_type="IOMMU_HWPT_DATA_ARM_SMMUV3",
    struct="iommu_hwpt_arm_smmuv3",
    sample={"ste": [0x1 | 0x4 << 1, 0]},
    fields={"ste[1]": Bits(_STE_1, errno="EIO")},
    wrong_type="EINVAL",
    device="vfio",
    hw_info="IOMMU_HW_INFO_TYPE_ARM_SMMUV3",
    viommu=ViommuType(
        type="IOMMU_VIOMMU_TYPE_ARM_SMMUV3",
        event=Event(
            data_type="IOMMU_VEVENTQ_TYPE_ARM_SMMUV3",
            struct="iommu_vevent_arm_smmuv3",
            sample={},
        ),
    ),
    of_viommu_only=True,
)

# amd/nested.c: amd_iommu_alloc_domain_nested(), validate_gdte_nested(). No header has a type of its
# vIOMMU yet, from which alone it can be made.
AMD_GUEST = HwptType(
    name="amd_guest",
    data_type="IOMMU_HWPT_DATA_AMD_GUEST",
    struct="iommu_hwpt_amd_guest",
    sample={"dte": [0, 0, 0, 0]},
    fields={"dte[0]": Bits(_U64 & ~_DTE_0_ZERO & ~_DTE_0_TABLE, errno="EINVAL")},
    device="vfio",
    hw_info="IOMMU_HW_INFO_TYPE_AMD",
    of_viommu_only=True,
)

TYPES = (SELFTEST, VTD_S1, ARM_SMMUV3, AMD_GUEST)
