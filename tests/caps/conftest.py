# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from caps_kernels import CAPS, NEW, OLD

from pytest_iommufd.kernel import resolve
from pytest_iommufd.lab import Bench, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def two() -> dict[str, Any]:
    """What the command tells of 6.12 and 7.3."""
    done = subprocess.run([*CAPS, OLD, NEW, "--format", "json"], check=True, stdout=subprocess.PIPE)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.fixture
def made(cache_root: Path) -> Iterator[Callable[..., Bench]]:
    """Makes benches of kernels that are not quite what they were built as."""
    benches: list[Bench] = []

    def make(spec: str, **given: Any) -> Bench:
        kernel = replace(resolve(spec, cache=cache_root), **given)
        benches.append(Bench(kernel, Settings(cache_root)))
        return benches[-1]

    yield make
    for bench in benches:
        bench.machine.stop()
