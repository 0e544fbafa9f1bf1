# SPDX-License-Identifier: GPL-2.0-only
"""What a test's fixtures make together is made before the test begins, whoever asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Send what waits: an error is one of the set-up, and no call that the test judges."""
    result = yield
    ledger = getattr(item, "funcargs", {}).get("ledger")
    if ledger is not None and hasattr(ledger, "together"):
        ledger.process.settle()
    return result
