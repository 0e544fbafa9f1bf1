# SPDX-License-Identifier: GPL-2.0-only
"""Accesses: memory of an IOAS as drivers without an IOMMU pin, read and write it."""
