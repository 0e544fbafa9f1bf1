# SPDX-License-Identifier: GPL-2.0-only
"""With a check removed from the kernel, the rule of that check is violated.

mutants_SUITE.py has the mutants: each is one edit of a file of drivers/iommu/iommufd, of which only
the module is built anew. That takes some five seconds, so only some are made, together, unless
ALL_MUTANTS=1 is in the environment (tox -e mutants): then all are, each in a kernel of its own.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from mutant import ALL, SOME, Batch, Mutant, batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def _mutants() -> Iterator[tuple[str, Mutant]]:
    for path in sorted(Path(__file__).parent.glob("mutants_*.py")):
        suite = path.stem.removeprefix("mutants_")
        for mutant in importlib.import_module(path.stem).MUTANTS[:: 1 if ALL else SOME]:
            yield suite, mutant


@pytest.mark.parametrize("batch", batches(_mutants()), ids=str)
def test_a_rule_notices(batch: Batch, run_edited: Callable[..., pytest.RunResult]) -> None:
    chosen = [*batch.options, *(f"--rule={slug}" for slug in batch.slugs)]
    suites = {suite for suite, _ in batch.mutants}
    result = run_edited(batch.spec, batch.apply, *chosen, suites=suites)
    # what an older kernel did without the check may be a defect that is known
    noticed = r"^(\S+) +(?:violated|crashed|known defect)"
    assert set(re.findall(noticed, result.stdout.str(), re.MULTILINE)) == batch.slugs
