# SPDX-License-Identifier: GPL-2.0-only
"""VFIO's container ioctls on /dev/iommu, and IOMMU_VFIO_IOAS."""
