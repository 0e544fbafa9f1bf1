# SPDX-License-Identifier: GPL-2.0-only
"""This machine: running programs, the tools that must be installed, progress."""
