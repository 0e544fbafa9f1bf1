# SPDX-License-Identifier: GPL-2.0-only
"""A splat fails the test that caused it, and no other, unless that test is there for it."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.kernel import ready
from pytest_iommufd.machine import KernelSplat, Machine, StreamLost
from pytest_iommufd.plugin.splats import SplatWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# A line that looks like one: what is told of it is the same, however it came into the log.
TOLD = """
import pytest

@pytest.fixture
def warn(process):
    def make():
        process.write_file("/dev/kmsg", b"------------[ cut here ]------------\\n")
        process.write_file("/dev/kmsg", b"WARNING: CPU: 0 PID: 1 at drivers/x.c:1 f+0x1/0x2\\n")
        process.write_file("/dev/kmsg", b"Call Trace:\\n")
        process.write_file("/dev/kmsg", b"---[ end trace 0000000000000000 ]---\\n")
    return make

def test_before(iommufd):
    pass

def test_warns(warn):
    warn()

def test_between(iommufd):
    pass

@pytest.mark.expect_splat("WARNING: .*drivers/x.c")
def test_is_there_for_it(warn):
    warn()

@pytest.mark.expect_splat("KASAN")
def test_expects_one_that_does_not_come(iommufd):
    pass

def test_fails_and_warns(warn):
    warn()
    raise RuntimeError("of the test")

def test_between_again(iommufd):
    pass

@pytest.fixture
def warns_in_setup(warn):
    warn()

@pytest.fixture
def warns_in_teardown(warn):
    yield
    warn()

def test_setup(warns_in_setup):
    pass

def test_teardown(warns_in_teardown):
    pass

def test_after(iommufd):
    pass
"""


def test_a_splat_fails_its_test(run: Callable[..., pytest.RunResult]) -> None:
    result = run(TOLD, "-rA")
    # the test whose teardown warns has passed as well
    result.assert_outcomes(passed=6, failed=3, errors=2)
    result.stdout.fnmatch_lines(
        [
            "*_ test_warns[[]*",
            "a splat in the kernel log: WARNING: *",
            "--- console ---",
            "------------[[] cut here []]------------",
            "WARNING: *",
            "Call Trace:",
            "---[[] end trace 0000000000000000 []]---",
            "*_ test_expects_one_that_does_not_come[[]*",
            "the kernel log has no splat whose title matches 'KASAN'",
            "*_ test_fails_and_warns[[]*",
            "a splat in the kernel log: WARNING: *",
        ]
    )
    passed = {
        line.split("::")[1].partition("[")[0]
        for line in result.stdout.lines
        if line.startswith("PASSED")
    }
    assert passed == {
        "test_before",
        "test_between",
        "test_is_there_for_it",
        "test_between_again",
        "test_teardown",
        "test_after",
    }


# 7.3 does not expect a mock device to be destroyed while a PASID of it is attached.
REAL = """
import pytest

@pytest.fixture
def attached(mock_devices, iommufd, ioas):
    device = mock_devices(pasid=True)
    hwpt = iommufd.hwpt_alloc(device, ioas, flags=iommufd.uapi.IOMMU_HWPT_ALLOC_PASID)
    device.replace(hwpt)
    iommufd.test("pasid_attach", device.selftest, pasid_attach={"pasid": 100, "pt_id": hwpt.id})
    return device

def test_before(iommufd):
    pass

def test_warns(attached):
    attached.destroy()

def test_after(iommufd):
    pass
"""


def test_a_real_warning_fails_its_test(
    run: Callable[..., pytest.RunResult], cache_root: Path
) -> None:
    if ready("7.3", cache_root) is None:
        pytest.skip("kernel 7.3, which has a warning to provoke, is not built here yet")
    result = run(REAL, "--kernel=7.3", kernel=False)
    outcomes = result.parseoutcomes()
    assert (outcomes["passed"], outcomes["failed"]) == (2, 1)
    result.stdout.fnmatch_lines(
        ["*_ test_warns[[]*", "*splat* in the kernel log: WARNING: *", "*Call Trace:*"]
    )


# ---- the watch by itself ----


@contextlib.contextmanager
def watched(*lines: str, expected: tuple[str, ...] = ()) -> Iterator[None]:
    """Watch a machine whose log grows by these lines within the block."""

    class Silent(Machine):
        """What SplatWatch uses of a machine."""

    Silent.__abstractmethods__ = frozenset()
    machine = Silent(boot_seconds=1, call_seconds=1)  # type: ignore[abstract]
    machine.log.append("WARNING: of an earlier test")
    machine.unseen_log()
    with SplatWatch(lambda: machine, expected):
        machine.log.extend(lines)
        yield


def test_what_was_in_the_log_before_is_not_looked_at() -> None:
    with watched("nothing to see"):
        pass


def test_several_splats_are_counted_and_all_shown() -> None:
    with (
        pytest.raises(KernelSplat, match=r"2 unexpected splats in the .* log: BUG: one") as caught,
        watched("BUG: one", "---[ end trace 0 ]---", "UBSAN: two"),
    ):
        pass
    assert "UBSAN: two" in caught.value.console


def test_one_expected_splat_does_not_excuse_another() -> None:
    with (
        pytest.raises(KernelSplat, match="a splat in the kernel log: UBSAN: two"),
        watched("BUG: one", "---[ end trace 0 ]---", "UBSAN: two", expected=("BUG: one",)),
    ):
        pass


def test_a_splat_outweighs_the_test_s_own_failure_and_keeps_it() -> None:
    with pytest.raises(KernelSplat) as caught, watched("BUG: one"):
        raise RuntimeError("of the test")
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_lost_machine_is_told_as_that() -> None:
    with pytest.raises(StreamLost), watched("BUG: one"):
        raise StreamLost("first")


def test_a_test_without_a_machine_is_not_watched() -> None:
    item = SimpleNamespace(funcargs={"machine": "of another plugin"}, iter_markers=lambda _: [])
    with SplatWatch.of(item, must_come=True):  # type: ignore[arg-type]
        pass
