# SPDX-License-Identifier: GPL-2.0-only
"""A rule's test that uses what the kernel does not have is absent.

That is a name which only other headers have; and, where a real device is in a mock one's place,
what this cannot do.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.iommufd.standin import StandInError
from pytest_iommufd.rules.marker import absent, rule_of
from pytest_iommufd.uapi import Uapi, UnknownNameError
from pytest_iommufd.uapi.absence import NO_IOMMUFD_TEST

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Look at what fixtures use."""
    with _absent(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Look at what the test uses."""
    with _absent(item):
        return (yield)


@contextlib.contextmanager
def _absent(item: pytest.Item) -> Iterator[None]:
    __tracebackhide__ = True
    try:
        yield
    except UnknownNameError as error:
        # a name that no header has is the test's mistake
        if rule_of(item) and any(uapi.has(error.missing) for uapi in Uapi.shipped()):
            absent(error.lacks)
        raise
    except StandInError as error:
        if rule_of(item):
            absent(f"{NO_IOMMUFD_TEST}; and {error}")
        raise
