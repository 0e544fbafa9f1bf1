# SPDX-License-Identifier: GPL-2.0-only
"""Scenarios in which every point that can fail is made to, one after the other."""
