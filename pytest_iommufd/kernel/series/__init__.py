# SPDX-License-Identifier: GPL-2.0-only
"""Patch series: found, applied, and the ones that come with the package."""
