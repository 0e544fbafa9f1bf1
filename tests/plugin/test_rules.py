# SPDX-License-Identifier: GPL-2.0-only
"""Rules' tests: what counts as held, absent, violated and crashed, and how a run says it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import rule
from pytest_iommufd.reports import terminal
from pytest_iommufd.rules.verdicts import Mark, Result, Verdicts

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., pytest.RunResult]

RULES = """
import pytest
from pytest_iommufd import absent, rule

@rule("area.holds")
def test_holds(iommufd):
    pass

@rule("area.absent")
def test_absent(iommufd):
    absent("the kernel has no such thing (ENOTTY)")

@rule("area.skipped")
def test_skipped(iommufd):
    pytest.skip("no time")

@rule("area.marked")
@pytest.mark.skip(reason="not today")
def test_marked(iommufd):
    pass

@rule("area.violated")
def test_violated(iommufd):
    assert iommufd.fd < 0

@rule("area.crashed")
def test_crashed(process):
    process.write_file("/proc/sysrq-trigger", b"c")

@rule("area.unjudged")
def test_agent_fails(process):
    process.syscall("kill", 1, 6)  # SIGABRT

@rule("area.both")
@pytest.mark.parametrize("way", [1, 2])
def test_both(iommufd, way):
    if way == 1:
        absent("in this way")

@pytest.mark.skip(reason="of no rule")
def test_of_no_rule(iommufd):
    pass
"""


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "two workers"])
def test_a_run_tells_each_rule_s_verdict(
    run: Callable[..., pytest.RunResult], workers: tuple[str, ...]
) -> None:
    result = run(RULES, *workers, "-v")
    outcomes = result.parseoutcomes()
    # a skip at collection is an error of the set-up, one in the test its failure
    assert outcomes.pop("failed") + outcomes.pop("errors", 0) == 5
    assert outcomes == {"passed": 2, "skipped": 3}
    result.stdout.fnmatch_lines_random(
        [
            "area.holds *holds",
            "area.absent *absent",
            "area.skipped *violated",
            "area.marked *violated",
            "area.violated *violated",
            "area.crashed *crashed",
            "area.both *holds",
            "*: 2 holds, 3 violated, 1 crashed, 1 absent, 1 not run",
            "*a rule's test was skipped for no accepted reason: no time",
            "*a rule's test was skipped for no accepted reason: not today",
        ]
    )


def test_a_quiet_run_shows_only_what_is_wrong(run: Callable[..., pytest.RunResult]) -> None:
    result = run(RULES, "-k", "holds or violated")
    result.stdout.fnmatch_lines_random(["area.violated *", "*: 1 holds, 1 violated*"])
    result.stdout.no_fnmatch_line("area.holds *")


def test_a_run_without_rules_says_nothing_of_them(run: Callable[..., pytest.RunResult]) -> None:
    result = run("def test_it():\n    pass\n", kernel=False)
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*holds*")
    result.stdout.no_fnmatch_line("iommufd: *")


@pytest.mark.parametrize("slug", ["", "one", "a.", ".a", "a..b", "a b.c", "a.b[1]", "a.b|c", "ä.b"])
def test_a_slug_of_another_form_is_refused(slug: str) -> None:
    with pytest.raises(ValueError, match="is no rule's name"):
        rule(slug)


@pytest.mark.parametrize(
    ("marks", "worst"),
    [
        ([Mark.HOLDS, Mark.ABSENT], Mark.HOLDS),
        ([Mark.ABSENT, Mark.HOLDS], Mark.HOLDS),
        ([Mark.HOLDS, Mark.VIOLATED, Mark.HOLDS], Mark.VIOLATED),
        ([Mark.ABSENT, Mark.VIOLATED], Mark.VIOLATED),
        ([Mark.VIOLATED, Mark.ABSENT], Mark.VIOLATED),
        ([Mark.CRASHED, Mark.VIOLATED], Mark.CRASHED),
        ([Mark.HOLDS, Mark.DEFECT, Mark.ABSENT], Mark.DEFECT),
        ([Mark.DEFECT, Mark.VIOLATED, Mark.DEFECT], Mark.VIOLATED),
        ([Mark.VIOLATED, Mark.CRASHED], Mark.CRASHED),
        ([Mark.HOLDS, Mark.DIFFERS, Mark.ABSENT], Mark.DIFFERS),
        ([Mark.DIFFERS, Mark.VIOLATED], Mark.VIOLATED),
    ],
)
def test_the_worst_of_a_rule_s_tests_counts(marks: list[Mark], worst: Mark) -> None:
    verdicts = Verdicts()
    for mark in marks:
        verdicts.add(Result("6.12", "a.b", mark))
    assert verdicts.of("6.12", "a.b").mark is worst


def test_a_result_is_the_same_in_another_process() -> None:
    result = Result("6.12", "a.b", Mark.CRASHED, reason="why", calls=("IOMMU_DESTROY() = OK",))
    assert Result.unpacked(json.loads(json.dumps(result.packed()))) == result


@pytest.fixture
def verdicts() -> Verdicts:
    made = Verdicts()
    made.add(Result("6.12", "a.b", Mark.HOLDS, got="OK"))
    made.add(Result("7.3", "a.b", Mark.DEFECT, known="why", got="crashed"))
    made.add(Result("7.3", "a.longer", Mark.ABSENT))
    made.add(Result("7.3", "a.held", Mark.HOLDS, got="OK"))
    made.add(Result("6.12", "a.held", Mark.HOLDS, got="OK"))
    made.complete({"7.3": "7.3", "6.12": "6.12"}, ["a.never", "a.held", "a.b"])
    return made


def test_a_table_has_a_column_for_each_kernel(verdicts: Verdicts) -> None:
    rows = [re.split(r"  +", line) for line in terminal.table(verdicts, verdicts.slugs)]
    assert rows == [
        ["rule", "7.3", "6.12"],
        ["a.never", "not run", "not run"],
        ["a.held", "holds", "holds"],
        ["a.b", "known defect", "holds"],
        ["a.longer", "absent", "not run"],
    ]
    assert terminal.counts(verdicts, "7.3") == "1 holds, 1 known defect, 1 absent, 1 not run"


def test_the_reasons_for_most_absent_rules_are_shown() -> None:
    made = Verdicts()
    made.add(Result("6.12", "A.0", Mark.HOLDS))
    for reason, count in (("no E", 1), ("no A", 4), ("no B", 3), ("no D", 1), ("no C", 2)):
        for number in range(count):
            made.add(Result("7.3", f"{reason[-1]}.{number}", Mark.ABSENT, reason=reason))
    made.add(Result("7.3", "a.held", Mark.HOLDS, reason="no A"))
    assert terminal.absences(made, "7.3") == [
        "  4 absent: no A",
        "  3 absent: no B",
        "  2 absent: no C",
        "  2 more reasons are in the files of --rules-json and --rules-html",
    ]
    assert terminal.absences(made, "6.12") == []


def test_kernels_differ_in_what_they_gave(verdicts: Verdicts) -> None:
    assert [slug for slug in verdicts.slugs if verdicts.differs(slug)] == ["a.b"]
    verdicts.add(Result("6.12", "a.longer", Mark.HOLDS, got="EINVAL"))
    assert verdicts.differs("a.longer", "6.12")
    assert not verdicts.differs("a.longer", "7.3")


# ---- known defects ----

KNOWN = """
import pytest
from pytest_iommufd import rule

@rule("area.holds")
def test_holds(iommufd, expected):
    with expected:
        iommufd.ioas_alloc()

@rule("area.errno")
def test_another_errno(iommufd, expected):
    with expected:
        iommufd.ioas_alloc(flags=1)

@rule("area.panic")
@pytest.mark.parametrize("way", [1, 2])
def test_panics(process, way):
    process.write_file("/proc/sysrq-trigger", b"c")

@rule("area.splat")
def test_warns(process):
    process.write_file("/dev/kmsg", b"WARNING: CPU: 0 PID: 1 at drivers/x.c:1 f+0x1/0x2\\n")

@pytest.fixture
def no_end(iommufd):
    yield
    raise RuntimeError("a leak")

@pytest.fixture
def no_beginning(iommufd):
    raise RuntimeError("no object")

@rule("area.leak")
def test_leaks(no_end):
    pass

@rule("area.set_up")
def test_is_not_set_up(no_beginning):
    pass

@rule("area.both")
def test_fails_twice(no_end):
    raise RuntimeError("first")
"""
SURPRISES = """
@rule("area.mended")
def test_is_mended(iommufd):
    pass

@rule("area.other_errno")
def test_another_errno_than_that(iommufd, expected):
    with expected:
        iommufd.ioas_alloc(flags=1)

@rule("area.leaks_too")
def test_leaks_too(no_end, iommufd, expected):
    with expected:
        iommufd.ioas_alloc(flags=1)

@rule("area.otherwise")
def test_fails_otherwise(no_end):
    raise RuntimeError("it should have crashed")

@rule("area.skipped")
def test_is_skipped(iommufd):
    pytest.skip("no time")
"""
# What a catalogue knows of a rule: what the kernel gives instead, and what shows it.
SHOWN = {
    "errno": ("EOPNOTSUPP",),
    "panic": ("crashed", "^the kernel panicked: sysrq triggered crash$"),
    "splat": ("violated", r"^WARNING: .* f\+"),
    "leak": ("violated", "^RuntimeError: a leak$"),
    "set_up": ("violated", "^RuntimeError: no object$"),
    "both": ("violated", "^RuntimeError: (first|a leak)$"),
}
NOT_SHOWN = {
    "other_errno": ("EPROTO",),
    "leaks_too": ("EOPNOTSUPP",),
    "otherwise": ("crashed", "it should have crashed"),
    "mended": ("violated", "."),
    "skipped": ("violated", "no time"),
}


def _defect(gives: str, *shows: str) -> str:
    patterns = "shows = [" + ", ".join(f"'{one}'" for one in shows) + "], " if shows else ""
    return f'defects = [{{ gives = "{gives}", {patterns}why = "for a reason", mended = "7.4" }}]'


def _known_rule(name: str, *known: str) -> str:
    """Return the table of a rule with a defect."""
    return f"""
["area.{name}"]
says = "It is known not to hold."
source = ["main.c:f"]
expect = "OK"
{_defect(*known)}
"""


CATALOGUE = """
title = "AREA"
[dialects.mainline]
about = "as it is"
["area.holds"]
says = "It holds."
source = ["main.c:f"]
expect = "OK"
["area.no_test"]
says = "Nobody wrote a test of it."
source = ["main.c:f"]
expect = "OK"
""" + "".join(_known_rule(name, *known) for name, known in (SHOWN | NOT_SHOWN).items())


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "two workers"])
def test_a_known_defect_is_shown_once_and_fails_nothing(
    run: Run, pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    pytester.makefile(".toml", rules=CATALOGUE)
    result = run(KNOWN, *workers, "-x", "-rx")
    assert result.parseoutcomes() == {"passed": 2, "xfailed": 8}
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines_random(
        [
            *(f"area.{name} *known defect" for name in SHOWN),
            "*: 1 holds, 6 known defect, 6 not run",
            "XFAIL *test_panics* - for a reason",
            "XFAIL at teardown of *test_leaks* - for a reason",
        ]
    )
    result.stdout.no_fnmatch_line("area.no_test*")


def test_what_is_not_as_it_is_known_to_be_fails(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makefile(".toml", rules=CATALOGUE)
    surprises = ("mended", "skipped", "otherwise", "other_errno", "leaks_too")
    result = run(KNOWN + SURPRISES, "-vv", *(f"--rule=area.{name}" for name in surprises))
    # the ends of two tests fail by themselves
    result.assert_outcomes(passed=1, xfailed=1, failed=3, errors=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines_random(
        [
            "area.mended *holds",
            "area.otherwise *violated",
            "area.skipped *violated",
            "area.no_test *not run",
            "area.other_errno *violated",
            "area.leaks_too *violated",
            "*: 1 holds, 4 violated, 8 not run",
        ]
    )


# Each fails in another form than the one that is listed.
FORMS = """
from pytest_iommufd import rule

def warn(process, *functions):
    for function in functions:
        title = f"WARNING: CPU: 0 PID: 1 at drivers/x.c:1 {function}+0x1/0x2"
        for line in (title, "---[ end trace 0000000000000000 ]---"):
            process.write_file("/dev/kmsg", f"{line}\\n".encode())

@rule("area.listed")
def test_the_listed_form(process):
    warn(process, "f", "g", "f")

@rule("area.message")
def test_another_message(iommufd):
    assert iommufd.fd < 0, "the page stays pinned"

@rule("area.function")
def test_a_warning_of_another_function(process):
    warn(process, "g")

@rule("area.more")
def test_one_more_warning(process):
    warn(process, "f", "g")

@rule("area.less")
def test_one_warning_less(process):
    warn(process, "f")

@rule("area.message_too")
def test_a_warning_and_a_message(process):
    warn(process, "f")
    assert process.pid < 0, "the page stays pinned"

@rule("area.panic")
def test_another_panic(process):
    process.write_file("/proc/sysrq-trigger", b"c")
"""
LISTED = {
    "listed": ("violated", r"^WARNING: .* f\+", r"^WARNING: .* g\+"),
    "message": ("violated", "^VmPin is 4$"),
    "function": ("violated", r"^WARNING: .* f\+"),
    "more": ("violated", r"^WARNING: .* f\+"),
    "less": ("violated", r"^WARNING: .* f\+", r"^WARNING: .* g\+"),
    "message_too": ("violated", r"^WARNING: .* f\+"),
    "panic": ("crashed", "^the kernel panicked: Fatal exception$"),
}


def test_a_defect_in_another_form_is_violated(run: Run, pytester: pytest.Pytester) -> None:
    rules = (_known_rule(name, *known) for name, known in LISTED.items())
    pytester.makefile(".toml", rules='title = "AREA"' + "".join(rules))
    result = run(FORMS)
    result.assert_outcomes(xfailed=1, failed=6)
    result.stdout.fnmatch_lines_random(
        [
            "area.listed *known defect",
            *(f"area.{name} *violated" for name in list(LISTED)[1:-1]),
            "area.panic *crashed",
        ]
    )


def test_a_rule_that_no_catalogue_has_is_an_error_of_that_test(
    run: Run, pytester: pytest.Pytester
) -> None:
    pytester.makefile(".toml", rules=CATALOGUE)
    result = run(KNOWN.replace("area.errno", "area.erno"), "-k", "errno or holds")
    result.assert_outcomes(errors=1, passed=1, deselected=6)
    result.stdout.fnmatch_lines(["*rules.toml has no rule 'area.erno'"])


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["alone", "one worker"])
def test_a_wrong_catalogue_stops_the_run(
    run: Run, pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    pytester.makefile(".toml", rules=CATALOGUE.replace("OK", "EFALUT"))
    result = run(KNOWN, *workers)
    assert result.ret != pytest.ExitCode.OK
    assert "passed" not in result.parseoutcomes()
    assert "rules.toml: [area.holds] expects 'EFALUT', which is no errno" in (
        result.stdout.str() + result.stderr.str()
    )


# ---- what a test judges ----

JUDGED = """
import pytest
from errno import EINVAL, EOPNOTSUPP
from pytest_iommufd import rule

@pytest.fixture
def no_ioas(iommufd):
    return iommufd.ioas_alloc(flags=1)

@rule("area.judged")
def test_its_call(iommufd, expected):
    with expected:
        iommufd.ioas_alloc(flags=1)
    expected.check(EOPNOTSUPP, EOPNOTSUPP)

@rule("area.differs")
def test_another_errno(iommufd, expected):
    expected.check(EOPNOTSUPP, EINVAL)

@rule("area.wrong")
def test_a_fixture_that_fails_in_the_block(iommufd, expected, request):
    with expected:
        iommufd.destroy(request.getfixturevalue("no_ioas"))

@rule("area.wrong")
def test_an_ioctl_before_it(iommufd, expected):
    with expected:
        iommufd.ioas_alloc().context.ioas_alloc(flags=1)

@rule("area.wrong")
def test_an_ioctl_of_another_context(other_iommufd, iommufd, expected):
    with expected:
        iommufd.ioas_alloc(flags=other_iommufd.ioas_alloc().id)

@rule("area.wrong")
def test_no_ioctl(iommufd, expected):
    with expected:
        pass

@rule("area.wrong")
def test_no_block(iommufd, expected):
    iommufd.ioas_alloc()

@rule("area.wrong")
def test_no_turn_of_a_loop(iommufd, expected):
    for flags in ():
        with expected:
            iommufd.ioas_alloc(flags=flags)

@rule("area.wrong")
def test_no_call(iommufd, expected):
    expected.check(*())
"""
JUDGING = """
title = "AREA"
[dialects.mainline]
about = "as it is"
""" + "".join(
    f"""
["area.{name}"]
says = "An unknown flag is rejected."
source = ["main.c:f"]
expect = "EOPNOTSUPP"
"""
    for name in ("judged", "differs", "wrong")
)


def test_an_expectation_judges_one_call_of_the_test_itself(
    run: Run, pytester: pytest.Pytester
) -> None:
    pytester.makefile(".toml", rules=JUDGING)
    result = run(JUDGED, "-vv")
    result.assert_outcomes(passed=1, failed=8)
    result.stdout.fnmatch_lines(
        [
            "area.judged *holds",
            "area.differs *violated",
            "area.wrong *not run",
            "*test_another_errno* - AssertionError: expected EOPNOTSUPP, got EINVAL",
            "*test_a_fixture_that_fails_in_the_block* - a fixture failed in the block: *",
            "*test_an_ioctl_before_it* - the block makes 2 calls: *",
            "*test_an_ioctl_of_another_context* - the block makes 2 calls: *",
            "*test_no_ioctl* - the block makes 0 calls*",
            "*test_no_block* - the test asks what its rule expects*",
            "*test_no_turn_of_a_loop* - the test asks what its rule expects*",
            "*test_no_call* - there is no call to judge*",
        ]
    )


# ---- what nobody has promised ----

BEHAVIOUR = """
import pytest
from pytest_iommufd import rule

@rule("area.errno")
def test_another_errno(iommufd, expected):
    with expected:
        iommufd.ioas_alloc(flags=1)

@rule("area.assertion")
def test_another_number(iommufd):
    assert 1 == 2

@rule("area.call")
def test_another_call_fails(iommufd):
    iommufd.ioas_alloc(flags=1)

@rule("area.holds")
def test_holds(iommufd):
    iommufd.ioas_alloc()

@rule("area.promised")
def test_a_promise_is_broken(iommufd):
    assert 1 == 2

@rule("area.panic")
def test_panics(process):
    process.write_file("/proc/sysrq-trigger", b"c")

@rule("area.splat")
def test_warns(process):
    process.write_file("/dev/kmsg", b"WARNING: CPU: 0 PID: 1 at drivers/x.c:1 f+0x1/0x2\\n")

@pytest.fixture
def no_end(iommufd):
    yield
    assert not "a leak"

@rule("area.leak")
def test_leaks(no_end):
    pass

@rule("area.ours")
def test_is_wrong(iommufd):
    raise KeyError
"""
DIFFERENT = ("errno", "assertion", "call")
WRONG = ("promised", "panic", "splat", "leak", "ours")
KNOWN_TO_DIFFER = """
differences = [
    { gives = "OK", why = "not this" },
    { gives = "EOPNOTSUPP", why = "since 6.15" },
    { gives = "violated", shows = ["^assert 1 == 2$"], why = "before 6.15" },
]
"""
OTHERWISE = 'title = "AREA"' + "".join(
    f"""
["area.{name}"]
says = "It does so."
source = ["main.c:f"]
expect = "OK"
{'promise = ["iommufd.h:EINVAL"]' if name == "promised" else 'behaviour = "the code"'}
{KNOWN_TO_DIFFER if name in ("errno", "assertion") else ""}
"""
    for name in (*DIFFERENT, "holds", *WRONG)
)


def test_what_nobody_has_promised_differs_and_fails_nothing(
    run: Run, pytester: pytest.Pytester
) -> None:
    pytester.makefile(".toml", rules=OTHERWISE)
    chosen = (f"--rule=area.{name}" for name in (*DIFFERENT, "holds"))
    result = run(BEHAVIOUR, "-rx", "--rules-json=rules.json", *chosen)
    assert result.parseoutcomes() == {"passed": 1, "xfailed": 3, "deselected": 5}
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines_random(
        [
            *(f"area.{name} *differs" for name in DIFFERENT),
            "*: 1 holds, 3 differs, 5 not run",
            "XFAIL *test_another_errno* - differs: expected OK, got *EOPNOTSUPP*",
        ]
    )
    rules = json.loads((pytester.path / "rules.json").read_text())["rules"]
    known = {rule["slug"]: next(iter(rule["results"].values()))["known"] for rule in rules}
    assert [known[f"area.{name}"] for name in DIFFERENT] == ["since 6.15", "before 6.15", ""]


def test_a_rule_is_chosen_by_a_former_name(run: Run, pytester: pytest.Pytester) -> None:
    alias = '["area.holds"]\naliases = ["former.held"]'
    pytester.makefile(".toml", rules=OTHERWISE.replace('["area.holds"]', alias))
    result = run(BEHAVIOUR, "--rule=former.*")
    assert result.parseoutcomes() == {"passed": 1, "deselected": 8}
    result.stdout.fnmatch_lines(["*: 1 holds, 8 not run"])


def test_strictly_it_fails(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makefile(".toml", rules=OTHERWISE)
    chosen = (f"--rule=area.{name}" for name in (*DIFFERENT, "holds"))
    result = run(BEHAVIOUR, "--iommufd-strict", *chosen)
    assert result.parseoutcomes() == {"passed": 1, "failed": 3, "deselected": 5}
    result.stdout.fnmatch_lines_random([f"area.{name} *violated" for name in DIFFERENT])


def test_what_cannot_be_right_is_violated_nevertheless(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makefile(".toml", rules=OTHERWISE)
    result = run(BEHAVIOUR, *(f"--rule=area.{name}" for name in WRONG))
    result.stdout.fnmatch_lines_random(
        [
            *(f"area.{name} *violated" for name in WRONG if name != "panic"),
            "area.panic *crashed",
        ]
    )
