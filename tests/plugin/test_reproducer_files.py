# SPDX-License-Identifier: GPL-2.0-only
"""Which files --reproducer writes, and what is said of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.plugin import reproducers

if TYPE_CHECKING:
    from collections.abc import Callable

TESTS = """
import pytest
from errno import EINVAL, ENOENT
from pytest_iommufd import raises_errno, rule
from pytest_iommufd.machine import Process

@rule("it.fails")
def test_fails(iommufd):
    with raises_errno(EINVAL):
        iommufd.destroy(77)

@rule("it.several")
@pytest.mark.parametrize("number", [77, 78])
def test_several(iommufd, number):
    with raises_errno(EINVAL):
        iommufd.destroy(number)

@rule("it.holds")
def test_holds(iommufd):
    with raises_errno(ENOENT):
        iommufd.destroy(77)

def test_no_rule(ioas):
    assert ioas.id == 99

@rule("it.skipped")
def test_skipped(iommufd):
    pytest.skip("absent: of no concern")

@rule("it.leaks")
def test_leaks(process, machine, uapi):
    from pytest_iommufd.iommufd import Context
    other = machine.process()
    context = Context(other, uapi)
    context.mock_device(context.ioas_alloc())
    del process.session.workers[other.worker]
"""
FORMS = ("--reproducer=c", "--reproducer=kselftest", "--reproducer=syz")


@pytest.fixture
def name(kernel_option: list[str]) -> str:
    """The kernel's name in files."""
    return kernel_option[0].removeprefix("--kernel=")


def written(pytester: pytest.Pytester, folder: str = "reproducers") -> set[str]:
    return {path.name for path in (pytester.path / folder).iterdir()}


def test_failed_tests_have_files_and_reports_name_them(
    run: Callable[..., pytest.RunResult], pytester: pytest.Pytester, name: str
) -> None:
    result = run(TESTS, *FORMS)
    stems = {
        f"it.fails-{name}",
        f"it.leaks-{name}",
        f"it.several-{name}-several-77",
        f"it.several-{name}-several-78",
        f"test_no_rule-{name}",
    }
    suffixes = (".c", ".kselftest.c", ".syz")
    assert written(pytester) == {stem + suffix for stem in stems for suffix in suffixes}
    result.stdout.fnmatch_lines(
        [
            "*- iommufd reproducers -*",
            f"*/reproducers/it.fails-{name}.c",
            "reproducers: 15 files in *",
        ]
    )


@pytest.mark.parametrize("kernel", ["7.3", "7.3+vtd-nesting"])
def test_a_name_has_the_kernel_once(kernel: str) -> None:
    def marker(_: str) -> SimpleNamespace:
        return SimpleNamespace(args=("it.several",))

    item = SimpleNamespace(
        name="test_several[x]",
        nodeid="",
        callspec=SimpleNamespace(id=f"zero-{kernel}-0x10"),
        get_closest_marker=marker,
        config=SimpleNamespace(stash={reproducers._ALONE: {("it.several", ""): 2}}),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reproducers, "spec_of", lambda _: "")
        name = reproducers._name(item, kernel)  # type: ignore[arg-type]
    assert name == f"it.several-{kernel}-several-zero-0x10"


def test_what_they_say_of_a_failure(
    run: Callable[..., pytest.RunResult], pytester: pytest.Pytester, name: str
) -> None:
    run(TESTS, "--reproducer=c", "--reproducer-folder=deep/folder")
    folder = pytester.path / "deep" / "folder"
    fails = (folder / f"it.fails-{name}.c").read_text()
    assert "Test: failed: expected EINVAL, got IOMMU_DESTROY: ENOENT" in fails
    assert 'judged("IOMMU_DESTROY", ioctl(fd, IOMMU_DESTROY, &destroy), EINVAL, ENOENT);' in fails
    other = (folder / f"test_no_rule-{name}.c").read_text().partition("*/")[0]
    words = " ".join(other.replace("\n *", " ").split())
    assert "There it failed: AssertionError: assert 1 == 99" in words
    assert "glob(" in (folder / f"it.leaks-{name}.c").read_text()


def test_of_all_tests(
    run: Callable[..., pytest.RunResult], pytester: pytest.Pytester, name: str
) -> None:
    run(TESTS, "--reproducer=syz", "--reproducer-of=all", "-k", "holds or skipped")
    assert written(pytester) == {f"it.holds-{name}.syz"}


def test_none_unless_asked_for(
    run: Callable[..., pytest.RunResult], pytester: pytest.Pytester
) -> None:
    result = run(TESTS, "--reproducer-of=all", "-k", "fails")
    assert not (pytester.path / "reproducers").exists()
    result.stdout.no_fnmatch_line("*reproducer*")


def test_workers_write_the_same_files(
    run: Callable[..., pytest.RunResult], pytester: pytest.Pytester
) -> None:
    run(TESTS, "--reproducer=c", "--reproducer-of=all", "--reproducer-folder=alone")
    result = run(TESTS, "--reproducer=c", "--reproducer-of=all", "-n", "2")
    assert written(pytester) == written(pytester, "alone")
    result.stdout.fnmatch_lines(["reproducers: 6 files in *"])


def test_only_what_an_earlier_run_made_is_replaced(
    run: Callable[..., pytest.RunResult], pytester: pytest.Pytester, name: str
) -> None:
    folder = pytester.mkdir("reproducers")
    others = folder / f"it.fails-{name}.c"
    others.write_text("/* mine */\n")
    (folder / f"it.fails-{name}.syz").mkdir()
    made = {f"it.fails-{name}-2.c", f"it.fails-{name}-2.syz"}
    for _ in range(2):
        result = run(TESTS, "--reproducer=c", "--reproducer=syz", "-k", "fails")
        result.stdout.fnmatch_lines([f"*/it.fails-{name}-2.c", "reproducers: 2 files in *"])
        assert written(pytester) - made == {others.name, f"it.fails-{name}.syz"}
        assert others.read_text() == "/* mine */\n"
    result = run(TESTS, "--reproducer=kselftest", "-k", "several and 77")
    first = folder / f"it.several-{name}-several-77.kselftest.c"
    first.write_text(first.read_text().replace("TEST_F", "GONE"))
    run(TESTS, "--reproducer=kselftest", "-k", "several and 77")
    assert "TEST_F" in first.read_text()


def test_folder_that_cannot_be_is_told_before_anything_runs(
    run: Callable[..., pytest.RunResult], pytester: pytest.Pytester
) -> None:
    (pytester.path / "file").write_text("")
    result = run(TESTS, "--reproducer=c", "--reproducer-folder=file/folder")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["*--reproducer-folder */file/folder cannot be written to: Not a directory", "expected: *"]
    )


def test_form_that_does_not_exist(run: Callable[..., pytest.RunResult]) -> None:
    result = run(TESTS, "--reproducer=python", kernel=False)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*invalid choice: 'python'*"])


def test_folder_that_is_lost_costs_no_result(
    run: Callable[..., pytest.RunResult], pytester: pytest.Pytester
) -> None:
    pytester.makeconftest(
        """
        import shutil
        def pytest_collection_finish(session):
            shutil.rmtree(session.config.invocation_params.dir / "reproducers")
        """
    )
    result = run(TESTS, "--reproducer=c", "-k", "fails or holds")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["could not be written: *No such file*", "it.fails *violated*"])
