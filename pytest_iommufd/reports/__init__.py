# SPDX-License-Identifier: GPL-2.0-only
"""What is told of a run besides pytest's own report."""
