# SPDX-License-Identifier: GPL-2.0-only
"""An edit of the kernel that a rule must notice, and several of them in one kernel."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

ALL = bool(os.environ.get("ALL_MUTANTS"))
SOME = 20  # else each so many-th of a suite's is run
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

    def slugs(self, area: str) -> set[str]:
        """The rules' whole names; `area` is what all of them begin with, or ""."""
        return {f"{area}.{rule}".removeprefix(".") for rule in self.rules.split()}

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


@dataclass(frozen=True)
class Batch:
    """Edits of one kernel that are built and run together: they break different rules.

    Attributes:
        mutants: each with what the names of its rules begin with.
    """

    mutants: list[tuple[str, Mutant]]

    def __str__(self) -> str:
        area, first = self.mutants[0]
        others = len(self.mutants) - 1
        return f"{area}-{first.name}".removeprefix("-") + (
            f" and {others} others" if others else ""
        )

    @property
    def spec(self) -> str:
        return self.mutants[0][1].spec

    @property
    def options(self) -> list[str]:
        return self.mutants[0][1].options.split()

    @property
    def slugs(self) -> set[str]:
        return {slug for area, mutant in self.mutants for slug in mutant.slugs(area)}

    def takes(self, area: str, mutant: Mutant) -> bool:
        first = self.mutants[0][1]
        alike = (first.spec, first.options) == (mutant.spec, mutant.options)
        return alike and not ALL and self.slugs.isdisjoint(mutant.slugs(area))

    def apply(self, folder: Path) -> None:
        for _, mutant in self.mutants:
            mutant.apply(folder)


def batches(mutants: Iterable[tuple[str, Mutant]]) -> list[Batch]:
    """Put mutants together where they can be; with ALL_MUTANTS=1 each is by itself."""
    made: list[Batch] = []
    for area, mutant in mutants:
        batch = next((one for one in made if one.takes(area, mutant)), None)
        if batch:
            batch.mutants.append((area, mutant))
        else:
            made.append(Batch([(area, mutant)]))
    return made
