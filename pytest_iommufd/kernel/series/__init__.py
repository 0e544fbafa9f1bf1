# SPDX-License-Identifier: GPL-2.0-only
"""Patch series: found, read and applied, and those that come with the package."""
