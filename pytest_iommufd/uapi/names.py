# SPDX-License-Identifier: GPL-2.0-only
"""The constants of a kernel's headers, and which of them are values of which field."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_iommufd.uapi.tables import NAMES_OF_FIELD, TEST_MEMBER_OF_OP

if TYPE_CHECKING:
    from collections.abc import Mapping


class Names:
    """Constants by name.

    Args:
        enums: those of each enum.
        constants: others.
        commands: numbers of ioctls.
    """

    def __init__(
        self,
        enums: Mapping[str, dict[str, int]],
        constants: Mapping[str, int],
        commands: Mapping[str, int],
    ) -> None:
        self._enums = enums
        self._commands = commands
        self._constants = {**constants, **commands}
        for enum in enums.values():
            self._constants.update(enum)
        self._names: dict[str, dict[str, int]] = {}

    @property
    def constants(self) -> list[str]:
        """Names of all constants but commands."""
        return [name for name in self._constants if name not in self._commands]

    def is_flag(self, name: str) -> bool:
        """Tell whether a constant is of an enum of flags."""
        enums = (enum for enum, names in self._enums.items() if name in names)
        return any(re.search(r"_flags?$", enum) for enum in enums)

    def test_member(self, op: int) -> str:
        """Name of the member of iommu_test_cmd that an operation uses, empty when unknown."""
        for name, number in self.names_of("iommu_test_cmd.op").items():
            if number == op:
                short = name.removeprefix("IOMMU_TEST_OP_")
                return TEST_MEMBER_OF_OP.get(short, short.lower())
        return ""

    def names_of(self, path: str) -> dict[str, int]:
        """Constants that are values of a field, by name; empty for a field that is a number."""
        if path not in self._names:
            self._names[path] = self._collect_names(path)
        return self._names[path]

    def _collect_names(self, path: str) -> dict[str, int]:
        name = path.removeprefix("iommu_").replace(".", "_")
        found: dict[str, int] = {}
        for source in NAMES_OF_FIELD.get(path, (f"iommu_{name}", f"iommufd_{name}")):
            if source in self._enums:
                found |= self._enums[source]
            else:
                found |= {
                    constant: value
                    for constant, value in self._constants.items()
                    if constant.startswith(source) and constant not in self._commands
                }
        return found
