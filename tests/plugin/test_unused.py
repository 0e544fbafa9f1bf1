# SPDX-License-Identifier: GPL-2.0-only
"""Where nobody asks for it the plugin is not noticed, and costs next to nothing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.kernel.cache.store import VARIABLE
from pytest_iommufd.kernel.spec import DEFAULT_KERNEL
from pytest_iommufd.lab import Settings
from pytest_iommufd.machine.iommu import IOMMUS, NONE
from pytest_iommufd.plugin.options import SHORT
from pytest_iommufd.plugin.reproducers import FORMS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Foreign = Callable[..., list[str]]

# Options, fixtures, parameters and markers with our names, that mean something else.
OPTIONS = """
def pytest_addoption(parser):
    parser.addoption("--kernel", choices=["rbf", "linear"])
    parser.addoption("--rule", action="store_true")
    parser.addoption("--reproducer", action="append")
    parser.addoption("--fail-nth", type=int, dest="nth")
"""
GIVEN = ("--kernel", "rbf", "--rule", "--reproducer=x", "--fail-nth", "3")
FIXTURES = """
import pytest

@pytest.fixture(params=["a", "b"])
def machine(request):
    return request.param

@pytest.fixture
def process(machine):
    return machine * 2

@pytest.fixture(scope="session")
def bench():
    return "a bench"

@pytest.fixture
def kernel(pytestconfig):
    return pytestconfig.getoption("--kernel")
"""
TESTS = """
import unittest
import pytest

@pytest.mark.parametrize("kernel", ["rbf", "linear"])
def test_parameter(kernel):
    assert kernel in {"rbf", "linear"}

@pytest.mark.fail_nth(7)
@pytest.mark.expect_splat
def test_fixtures(kernel, process, bench, pytestconfig):
    assert (kernel, bench) == ("rbf", "a bench")
    assert process in {"aa", "bb"}
    option = pytestconfig.option
    assert (option.rule, option.reproducer, option.nth) == (True, ["x"], 3)

class TestOwn:
    @pytest.fixture
    def kernel(self):
        return 5

    @pytest.fixture(autouse=True, params=[1, 2])
    def buffer(self, request):
        return request.param

    def test_own(self, kernel, buffer):
        assert kernel == 5 and buffer in {1, 2}

class TestCase(unittest.TestCase):
    def test_it(self):
        pass

@pytest.mark.parametrize("machine", ["c"], indirect=True)
def test_indirect(machine, process):
    assert process == "cc"
"""
# As in pytest's own documentation, with failures of each kind.
EXAMPLES = """
import sys
import warnings
import pytest

@pytest.fixture(scope="module")
def numbers():
    yield [1, 2]
    print("teardown")

@pytest.fixture
def broken():
    raise ValueError("no")

def test_answer():
    assert [1, 2, 3] == [1, 2, 4]

def test_needs_files(tmp_path, capsys, numbers):
    (tmp_path / "file").write_text("x")
    print("hello")
    assert capsys.readouterr().out == "hello\\n"

@pytest.mark.parametrize(
    ("a", "b"), [(1, 2), pytest.param(2, 3, id="two", marks=pytest.mark.xfail)]
)
def test_pairs(a, b, numbers):
    assert a in numbers and b in numbers

@pytest.mark.skipif(sys.platform != "win32", reason="elsewhere")
def test_skipped():
    pass

@pytest.mark.xfail(strict=True)
def test_not_failing():
    pass

def test_broken(broken):
    pass

def test_missing(nothing_of_that_name):
    pass

def test_dynamic(request):
    assert request.getfixturevalue("numbers") == [1, 2]

def test_raises():
    with pytest.raises(ZeroDivisionError):
        1 / 0

@pytest.mark.unknown
def test_warns():
    warnings.warn("careful")

class TestGroup:
    value = 0

    def test_one(self):
        self.value = 1
        assert self.value == 1
"""
HEAVY = ("cffi", "filelock", "gcovr", "jinja2", "qemu", "rich", "watchfiles")
NOTES_OPTIONS = """
def pytest_configure(config):
    for name, value in sorted(vars(config.option).items()):
        if name.startswith("iommufd_"):
            print(f"{name.removeprefix('iommufd_')}={value!r}")
"""
NOTES_MODULES = """
import sys

def pytest_unconfigure():
    print("MODULES", *sorted(sys.modules))
"""


@pytest.fixture
def foreign(pytester: pytest.Pytester) -> Foreign:
    """Runs pytest without us, and with us; returns what it prints if that is the same."""

    def run(*arguments: str) -> list[str]:
        outputs = [
            _told(pytester.runpytest_subprocess("-p", "no:cacheprovider", *arguments, *without))
            for without in (("-p", "no:iommufd"), ())
        ]
        assert outputs[1] == outputs[0]
        return outputs[0]

    return run


def _told(result: pytest.RunResult) -> list[str]:
    own = re.compile(r"in \d+\.\d+s|0x[0-9a-f]+|iommufd-0\.1\.0, |=+")
    lines = [*result.stdout.lines, *result.stderr.lines, f"status {result.ret!s}"]
    return [own.sub("", line) for line in lines]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--setup-show", "-v"),
        ("--fixtures-per-test", "-v"),
        ("-n", "2"),
        ("--strict-markers", "-o", "markers=fail_nth: theirs\nexpect_splat: theirs"),
    ],
    ids=["setup", "fixtures", "workers", "markers"],
)
def test_names_in_a_conftest_stay_theirs(
    foreign: Foreign, pytester: pytest.Pytester, arguments: tuple[str, ...]
) -> None:
    pytester.makeconftest(OPTIONS + FIXTURES)
    pytester.makepyfile(TESTS)
    told = foreign("-W", "ignore", *GIVEN, *arguments)
    assert any("8 passed" in line for line in told) or "--fixtures-per-test" in arguments


@pytest.mark.parametrize("how", ["before", "after", "conftest"])
def test_names_of_another_plugin_stay_theirs(
    foreign: Foreign, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    pytester.makepyfile(vendor=OPTIONS + FIXTURES, test_it=TESTS)
    pytester.syspathinsert()
    if how == "after":
        monkeypatch.setenv("PYTEST_PLUGINS", "vendor")
    elif how == "conftest":
        pytester.makeconftest("pytest_plugins = ['vendor']\n")
    told = foreign("-W", "ignore", *GIVEN, *(("-p", "vendor") if how == "before" else ()))
    assert any("8 passed" in line for line in told)


@pytest.mark.parametrize("arguments", [(), ("-v", "-rA", "--setup-show")], ids=["plain", "all"])
def test_examples_give_the_same(
    foreign: Foreign, pytester: pytest.Pytester, arguments: tuple[str, ...]
) -> None:
    pytester.makepyfile(EXAMPLES)
    told = foreign("--durations=0", "--durations-min=9", *arguments)
    assert any("2 failed, 6 passed, 1 skipped, 1 xfailed" in line for line in told), told


def test_a_flag_before_the_folder_whose_conftest_has_it(
    foreign: Foreign, pytester: pytest.Pytester
) -> None:
    folder = pytester.mkdir("sub")
    (folder / "conftest.py").write_text(OPTIONS)
    (folder / "test_it.py").write_text(
        "def test_it(pytestconfig):\n    assert pytestconfig.option.rule\n"
    )
    told = foreign("--rule", "sub")
    assert any("1 passed" in line for line in told)


def test_what_it_costs_is_not_imported(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(NOTES_MODULES + OPTIONS + FIXTURES)
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_subprocess("-W", "ignore", "-p", "no:benchmark", *GIVEN)
    result.assert_outcomes(passed=8)
    (line,) = (line for line in result.stdout.lines if line.startswith("MODULES "))
    names = line.split()
    assert [name for name in names if name.partition(".")[0] in HEAVY] == []
    assert [name for name in names if name.startswith("pytest_iommufd")] == [
        "pytest_iommufd",
        "pytest_iommufd.hookspec",
        "pytest_iommufd.plugin",
        "pytest_iommufd.plugin.demand",
        "pytest_iommufd.plugin.options",
    ]


# ---- and where somebody asks ----

ASKS = """
import pytest

@pytest.fixture
def indirectly(ioas):
    return ioas

def test_ours(indirectly):
    pass

@pytest.mark.parametrize("hwpt_type", [1], indirect=True)
def test_parameters_of_ours(hwpt_type):
    pass
"""


@pytest.mark.parametrize("arguments", [(), ("--kernel=7.3",)], ids=["a fixture", "an option"])
def test_who_asks_for_ours_gets_it(pytester: pytest.Pytester, arguments: tuple[str, ...]) -> None:
    pytester.makepyfile(ASKS)
    result = pytester.runpytest_subprocess("--setup-plan", *arguments)
    release = "7.3" if arguments else "6.12"
    result.stdout.fnmatch_lines(
        [
            f"*::test_ours[[]{release}] (fixtures used: *, indirectly, ioas, iommufd, kernel, *)",
            f"*::test_parameters_of_ours[[]{release}-1] (fixtures used: *, hwpt_type, *)",
        ]
    )


def test_who_asks_for_ours_does_not_take_theirs(pytester: pytest.Pytester) -> None:
    vendor = "import pytest\n@pytest.fixture\ndef process():\n    return 'theirs'\n"
    tests = "def test_ours(ioas):\n    pass\ndef test_theirs(process):\n    pass\n"
    pytester.makepyfile(vendor=vendor, test_it=tests)
    pytester.syspathinsert()
    result = pytester.runpytest_subprocess("-p", "vendor", "--setup-plan")
    result.stdout.fnmatch_lines(
        ["*::test_ours[[]6.12] (fixtures used: *", "*::test_theirs (fixtures used: process)"]
    )


@pytest.mark.parametrize("where", ["arguments", "addopts", "environment"])
def test_short_names_are_ours_where_nobody_has_them(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    given = (
        *("--kernel=7.3", "--kernel", "6.12", "--rule", "a.*", "--rules-json=x", "--fail-nth"),
        *("--rules-html", "y", "--reproducer", "c", "--reproducer-folder=z"),
        *("--reproducer-of", "all"),
    )
    assert set(SHORT) <= {word.partition("=")[0] for word in given}
    folder = pytester.mkdir("sub")
    (folder / "conftest.py").write_text(NOTES_OPTIONS)
    ini = "[pytest]\ntestpaths = sub\n"
    if where == "addopts":
        ini += f"addopts = {' '.join(given)}\n"
    elif where == "environment":
        monkeypatch.setenv("PYTEST_ADDOPTS", " ".join(given))
    (pytester.path / "pytest.ini").write_text(ini)
    result = pytester.runpytest_subprocess("--co", *(given if where == "arguments" else ()))
    result.stdout.fnmatch_lines(
        [
            "fail_nth=True",
            "kernel=['7.3', '6.12']",
            "reproducer=['c']",
            "reproducer_folder='z'",
            "reproducer_of='all'",
            "rule=['a.*']",
            "rules_html='y'",
            "rules_json='x'",
        ]
    )


def test_a_worker_s_rules_are_counted_where_only_its_tests_ask(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, cache_root: Path
) -> None:
    monkeypatch.setenv(VARIABLE, str(cache_root))
    pytester.makepyfile(
        "from pytest_iommufd import rule\n"
        "@rule('area.one')\ndef test_one(ioas):\n    assert ioas.id\n"
    )
    result = pytester.runpytest_subprocess("-n", "1", timeout=300)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["6.12: 1 holds"])


def test_the_help_says_the_defaults(pytester: pytest.Pytester) -> None:
    text = re.sub(r"[\s=]+", " ", pytester.runpytest_subprocess("--help").stdout.str())
    for said in (
        f"guest (default {Settings.memory})",
        f"serves (default {Settings.boot_seconds:g})",
        f"may take (default {Settings.call_seconds:g})",
        f"default {DEFAULT_KERNEL}",
        f"--iommufd-iommu {{{','.join((NONE, *IOMMUS))}}}",
        f"--iommufd-reproducer {{{','.join(FORMS)}}}",
    ):
        assert said in text
