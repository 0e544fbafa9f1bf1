# SPDX-License-Identifier: GPL-2.0-only
"""What fixtures make together: in one round trip, and without tests noticing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

TESTS = """
import pytest
from errno import EINVAL
from pytest_iommufd import raises_errno
from pytest_iommufd.machine.session import Session

@pytest.fixture
def sent(monkeypatch, ledger):
    sent, ask = [], Session.ask
    def count(self, request, during, **options):
        sent.append(str(during))
        return ask(self, request, during, **options)
    monkeypatch.setattr(Session, "ask", count)
    return sent

def test_one_round_trip(sent, nested_hwpt, other_ioas):
    (trip,) = sent
    for name in ("open(", "IOAS_ALLOC", "TEST_CMD", "NEST_PARENT", "IOAS_ALLOC"):
        assert name in trip
        trip = trip[trip.index(name) + 1 :]

def test_ids(iommufd, ioas, mock_device, parent_hwpt, nested_hwpt):
    ids = [ioas.id, mock_device.id, mock_device.hwpt.id, parent_hwpt.id, nested_hwpt.id]
    assert 0 not in ids and len(set(ids)) == 5
    nested_hwpt.destroy()
    parent_hwpt.destroy()

@pytest.fixture
def wrong(iommufd, mock_device):
    with iommufd.together:
        return iommufd.hwpt_alloc(mock_device, mock_device)

@pytest.fixture
def after(iommufd, wrong):
    with iommufd.together:
        return iommufd.ioas_alloc()

def test_failure_is_the_set_ups(iommufd, after):
    with raises_errno(EINVAL):
        iommufd.ioctl("IOMMU_IOAS_ALLOC", flags=1)

@pytest.fixture
def no_more_fds(iommufd, process):
    process.checked("prlimit64", 0, 7, iommufd.put(bytes(16)), 0)

def test_order_is_kept(no_more_fds, iommufd):
    iommufd.ioas_alloc()
"""


def test_together(run: Callable[..., pytest.RunResult]) -> None:
    result = run(TESTS)
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(
        ["*ERROR at setup of test_failure_is_the_set_ups*", "*IOMMU_HWPT_ALLOC: EINVAL*"]
    )
