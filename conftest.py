# SPDX-License-Identifier: GPL-2.0-only
"""The repository's own test run."""

pytest_plugins = ["pytester"]
