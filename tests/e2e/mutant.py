# SPDX-License-Identifier: GPL-2.0-only
"""An edit of the kernel that a rule must notice."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

ALL = bool(os.environ.get("ALL_MUTANTS"))
SOME = 32  # else each so many-th of a suite's is run
# driver.c is a part of the kernel's image, where other drivers call it, and not of the module: in
# the module of a mutant a copy comes first, which exports nothing.
IN_THE_IMAGE = "driver.c"
COPY = """
#include "iommufd_private.h"
#undef EXPORT_SYMBOL_NS_GPL
#define EXPORT_SYMBOL_NS_GPL(...)
#include "driver.c"
"""


@dataclass(frozen=True)
class Mutant:
    """One edit.

    Attributes:
        name: of the check.
        old: a pattern that matches once within the function; white space matches any.
        new: what takes its place.
        rules: the suite's rules that must be violated, with spaces between.
        function: the function or table that is edited.
        spec: the kernel; one that has the check.
        file: where.
        options: pytest's, with spaces between.
    """

    name: str
    old: str
    new: str
    rules: str
    function: str = "iommufd_hwpt_alloc"
    spec: str = "6.12"
    file: str = "hw_pagetable.c"
    options: str = ""

    def apply(self, folder: Path) -> None:
        path = folder / self.file
        text = path.read_text()
        # the definition begins in the first column, or after its type
        definition = rf"^[\w *]*\b{self.function}\b[^;{{]*{{.*?^}}"
        found = re.search(definition, text, re.MULTILINE | re.DOTALL)
        assert found, self.function
        pattern = r"\s+".join(re.escape(word) for word in self.old.split())
        edited, count = re.subn(pattern, self.new, found[0])
        assert count == 1, f"{self.name}: {self.old!r} is {count} times in {self.function}"
        path.write_text(text[: found.start()] + edited + text[found.end() :])
        if self.file == IN_THE_IMAGE:
            (folder / "copy.c").write_text(COPY)
            with (folder / "Makefile").open("a") as makefile:
                makefile.write("iommufd-y += copy.o\n")
