# SPDX-License-Identifier: GPL-2.0-only
"""Attaching mock devices and their PASIDs."""
