# SPDX-License-Identifier: GPL-2.0-only
"""This machine: programs that are run, tools and limits that there are, files, and progress."""
