# SPDX-License-Identifier: GPL-2.0-only
"""The type that the series mock-s1 adds; README.md tells its story."""

from pytest_iommufd import Bits, HwptType, OneOf, ViommuType, Within

MOCK_S1 = HwptType(
    name="mock_s1",
    data_type="IOMMU_HWPT_DATA_SELFTEST_S1",
    struct="iommu_hwpt_selftest_s1",
    sample={"levels": 4, "format": "IOMMU_SELFTEST_S1_FORMAT_SMALL", "cookie": 0x5EED},
    fields={
        "flags": Bits("IOMMU_SELFTEST_S1_WRITE_PROTECT", "IOMMU_SELFTEST_S1_SUPERVISOR"),
        "levels": Within(3, 5),
        "format": OneOf("IOMMU_SELFTEST_S1_FORMAT_SMALL", "IOMMU_SELFTEST_S1_FORMAT_LARGE"),
        "table": Bits(0xFFFF_FFFF_FFFF_F000, errno="EINVAL"),
    },
    flags=("IOMMU_HWPT_ALLOC_PASID",),
    viommu=ViommuType(type="IOMMU_VIOMMU_TYPE_SELFTEST"),
    reaches=lambda hwpt, data: hwpt.check_iotlb(0, data.cookie),
)


def pytest_iommufd_hwpt_types() -> list[HwptType]:
    """Add it to the types that the suites test."""
    return [MOCK_S1]
