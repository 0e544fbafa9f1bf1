# SPDX-License-Identifier: GPL-2.0-only
"""Finds the packages, so that a new folder in suites/ is installed without being listed.

fixtures/ and suites/ are at the top, where a reader looks for them, and are installed inside the
package, where `pytest --pyargs` finds them. What pyproject.toml can say finds no packages in
folders that are installed under another name.
"""

from setuptools import find_packages, setup

MOVED = ("fixtures", "suites")

packages = find_packages(include=["pytest_iommufd", "pytest_iommufd.*"])
for folder in MOVED:
    name = f"pytest_iommufd.{folder}"
    packages += [name, *(f"{name}.{inner}" for inner in find_packages(folder))]

setup(packages=packages, package_dir={f"pytest_iommufd.{folder}": folder for folder in MOVED})
