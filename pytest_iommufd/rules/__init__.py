# SPDX-License-Identifier: GPL-2.0-only
"""Rules: each test says which one it is, and a run gives each a verdict."""
