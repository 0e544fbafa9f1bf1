# SPDX-License-Identifier: GPL-2.0-only
"""The files that a run writes of its rules' results: what is in them, and that they are there."""

from __future__ import annotations

import json
import os
import signal
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_iommufd.suites

from pytest_iommufd.errors import Problem
from pytest_iommufd.host.files import writable, write_whole
from pytest_iommufd.reports import html as rules_html
from pytest_iommufd.reports import json as rules_json
from pytest_iommufd.reports.data import KernelInfo, gather
from pytest_iommufd.reports.data import Run as RunData
from pytest_iommufd.rules.catalogue import Catalogue
from pytest_iommufd.rules.rerun import command
from pytest_iommufd.rules.verdicts import Mark, Result, Verdicts

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.lab import Bench

    Run = Callable[..., pytest.RunResult]

CATALOGUE = """
title = "AREA <&>"
[dialects.mainline]
about = "as it is"
[dialects.posted]
about = "as it was"
like = "mainline"
[sources.patch]
about = "a <b>patch</b>"
by = "Somebody"
on = 2023-05-11
link = "https://lore.kernel.org/r/1@x"
[sources.odd]
about = "a remark"
by = "Nobody"
on = 2023-05-12
link = "javascript:alert(1)"
[capabilities.nothing]
header = "IOMMU_NO_SUCH_THING"
["area.one.holds"]
says = "It <i>holds</i>."
source = ["main.c:f", "patch:g", "odd"]
expect = "OK"
["area.one.absent"]
says = "It is about nothing."
source = ["main.c:f"]
expect = "OK"
needs = ["nothing"]
["area.two.panics"]
says = "It crashes."
source = ["main.c:f"]
expect = "OK"
defects = [{ gives = "crashed", shows = ["panicked: <?sysrq"], why = "<script>alert(1)</script>" }]
["area.two.violated"]
says = "It does not hold."
source = ["main.c:f"]
expect = { mainline = "EINVAL", posted = "OK" }
["area.two.no_test"]
says = "Nobody wrote a test of it."
source = ["main.c:f"]
expect = "OK"
"""
SUITE = """
import pytest
from pytest_iommufd import rule

@rule("area.one.holds")
@pytest.mark.parametrize("way", [1, 2])
def test_holds(iommufd, expected, way):
    with expected:
        iommufd.ioas_alloc()

@rule("area.one.absent")
def test_absent(iommufd):
    pass

@rule("area.two.panics")
def test_panics(process):
    process.write_file("/proc/sysrq-trigger", b"c")

@rule("area.two.violated")
def test_violated(iommufd, expected):
    with expected:
        iommufd.ioas_alloc()
"""


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "two workers"])
def test_a_run_writes_what_each_rule_gave(
    run: Run, bench: Bench, pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    pytester.makefile(".toml", rules=CATALOGUE)
    result = run(SUITE, *workers, "--rules-json=rules.json", "--rules-html=rules.html")
    result.assert_outcomes(passed=2, skipped=1, xfailed=1, failed=1)
    data = json.loads(Path("rules.json").read_text())
    assert (data["schema"], data["exit_status"], data["stopped"]) == (2, 1, "")
    (kernel,) = data["kernels"]
    name = bench.kernel.name
    assert kernel["name"] == name
    assert kernel["release"] == bench.kernel.release
    assert kernel["source"] == bench.kernel.source
    assert kernel["agent"]
    assert (kernel["dialect"], kernel["dialect_about"]) == ("mainline", "as it is")
    marks = ("holds", "known defect", "violated", "absent", "not run")
    assert kernel["counts"] == dict.fromkeys(marks, 1)
    rules = {rule["slug"]: rule for rule in data["rules"]}
    assert list(rules) == [
        *("area.one.holds", "area.one.absent"),
        *("area.two.panics", "area.two.violated", "area.two.no_test"),
    ]
    assert rules["area.one.holds"]["sources"][:2] == [
        {"text": "f() in main.c", "link": ""},
        {
            "text": "Somebody, 2023-05-11: a <b>patch</b> (g)",
            "link": "https://lore.kernel.org/r/1@x",
        },
    ]
    results = {slug: rule["results"][name] for slug, rule in rules.items()}
    holds, violated, panics = (
        results[f"area.{slug}"] for slug in ("one.holds", "two.violated", "two.panics")
    )
    assert (holds["mark"], holds["got"], holds["tests"]) == ("holds", "OK", 2)
    assert holds["dialect"] == "mainline"
    assert holds["again"] == (
        f"pytest test_it.py --iommufd-kernel {bench.kernel.spec} --iommufd-rule area.one.holds"
    )
    assert results["area.one.absent"]["mark"] == "absent"
    lacked = results["area.one.absent"]["reason"]
    assert lacked == "the kernel's header does not define IOMMU_NO_SUCH_THING"
    assert results["area.one.absent"]["dialect"] == "mainline"
    assert (violated["mark"], violated["expected"], violated["got"]) == ("violated", "EINVAL", "OK")
    assert violated["reason"] == "expected EINVAL, but the kernel accepted the call"
    assert violated["calls"][-1].endswith(" = OK, expected EINVAL")
    assert (panics["mark"], panics["gave"]) == ("known defect", "crashed")
    assert panics["reason"] == "the kernel panicked: sysrq triggered crash"
    assert "Kernel panic - not syncing" in panics["console"]
    assert results["area.two.no_test"]["mark"] == "not run"
    page = Page(Path("rules.html").read_text())
    assert page.ids >= set(rules)
    assert "Kernel panic - not syncing" in page.text


def test_a_run_that_is_stopped_writes_what_it_has(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makefile(".toml", rules=CATALOGUE)
    run(SUITE, "--iommufd-boot-deadline=0.2", "--rules-json=rules.json")
    data = json.loads(Path("rules.json").read_text())
    assert data["kernels"][0]["counts"] == {"not run": 5}  # the kernel's fault, not a rule's
    reasons = [next(iter(rule["results"].values()))["reason"] for rule in data["rules"]]
    assert any("the machine did not serve" in reason for reason in reasons)


def test_a_run_that_is_interrupted_writes_what_it_has(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "rules.toml").write_text(CATALOGUE)
    waits = """
from pathlib import Path

@rule("area.two.no_test")
def test_waits(process):
    Path("waits").touch()
    process.syscall("ppoll", 0, 0, 0, 0, seconds=600)
"""
    started = start(SUITE.partition("@rule")[0] + waits, "--rules-json=rules.json")
    started.wait_for(tmp_path / "waits")
    assert started.end(signal.SIGINT) == pytest.ExitCode.INTERRUPTED
    data = json.loads((tmp_path / "rules.json").read_text())
    assert data["stopped"] == "interrupted"
    assert data["kernels"][0]["counts"] == {"not run": 5}


# ---- files ----

NO_KERNEL = """
from pathlib import Path
from pytest_iommufd import rule

@rule("area.one.holds")
def test_holds():
    Path("out").rmdir()
"""


@pytest.mark.parametrize("option", ["--rules-json", "--rules-html"])
@pytest.mark.parametrize("file", ["none/rules", ".", "/proc/rules"])
def test_a_file_that_cannot_be_written_is_told_at_once(run: Run, option: str, file: str) -> None:
    result = run(NO_KERNEL, f"{option}={file}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {option} *: it*s* folder*"])
    result.stdout.no_fnmatch_line("iommufd: *")


def test_a_folder_that_goes_away_fails_the_run(run: Run) -> None:
    Path("out").mkdir()
    result = run(NO_KERNEL, "--rules-json=out/rules.json", kernel=False)
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(["--rules-json */out/rules.json could not be written: No such *"])


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "rules.json"
    writable("--rules-json", file)
    write_whole(file, "one")
    with pytest.raises(UnicodeEncodeError):
        write_whole(file, "two\udc80")
    assert file.read_text() == "one"
    write_whole(file, "two")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("rules.json", "two")]
    os.mkfifo(tmp_path / "fifo")
    for place, what in (tmp_path, "a folder"), (tmp_path / "fifo", "no regular file"):
        with pytest.raises(Problem, match=f"it is {what}"):
            writable("--rules-json", place)


def test_a_rule_of_a_suite_is_run_again_wherever_one_is() -> None:
    suites = Path(pytest_iommufd.suites.__path__[0])
    assert command(suites / "hwpt_alloc", "a.b", "~/my linux", "x/test_it.py::test[1]") == (
        "pytest --pyargs pytest_iommufd.suites.hwpt_alloc "
        "--iommufd-kernel '~/my linux' --iommufd-rule a.b"
    )
    assert command(suites, "a.b", "6.12", "x/test_it.py::test[1]") == (
        "pytest x/test_it.py --iommufd-kernel 6.12 --iommufd-rule a.b"
    )


# ---- the page ----

VOID = {"meta", "input", "col", "br", "wbr"}


class Page(HTMLParser):
    """A page whose elements are all closed.

    Attributes:
        ids: its anchors.
        links: where it refers to.
        text: what it says.
        tags: its elements' names.
    """

    def __init__(self, content: str) -> None:
        super().__init__()
        self._open: list[str] = []
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.text = ""
        self.tags: list[str] = []
        self.feed(content)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self._open.append(tag)
        given = dict(attrs)
        if name := given.get("id"):
            assert name not in self.ids
            self.ids.add(name)
        self.links += [given[name] or "" for name in ("href", "src") if name in given]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, self.getpos()

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Any]:
    """What two kernels gave."""
    path = tmp_path / "rules.toml"
    path.write_text(CATALOGUE)
    catalogue = Catalogue.load(path)
    evil = "<script>alert(1)</script>"
    verdicts = Verdicts()
    for kernel, dialect in (("6.12", "mainline"), ("6.12+posted", "posted")):
        verdicts.add(Result(kernel, "area.one.holds", Mark.HOLDS, kernel, dialect, "OK", "OK"))
    verdicts.add(
        Result(
            "6.12+posted",
            "area.two.panics",
            Mark.DEFECT,
            got="crashed",
            reason=evil,
            known=evil,
            console=evil,
            calls=(evil,),
        )
    )
    verdicts.add(Result("6.12", "other.rule", Mark.VIOLATED, "6.12", got="EINVAL"))
    verdicts.complete({"6.12": "6.12", "6.12+posted": "6.12+posted"}, catalogue.rules)
    new = {"IOMMU_TO_COME": "flag"}
    kernels = {"6.12": KernelInfo("6.12", "6.12", source=evil, undescribed=new)}
    return gather(verdicts, [catalogue], kernels, RunData(0, 1.25, 2, "interrupted"))


def test_the_page_is_whole_and_loads_nothing(data: dict[str, Any]) -> None:
    page = Page(rules_html.render(data))
    assert page.tags.count("script") == 1
    assert {"link", "img", "iframe", "b", "i"}.isdisjoint(page.tags)
    assert page.ids >= {rule["slug"] for rule in data["rules"]}
    assert {link for link in page.links if not link.startswith("#")} == {
        "https://lore.kernel.org/r/1@x"
    }
    for text in (
        *("It <i>holds</i>.", "a <b>patch</b>", "<script>alert(1)</script>"),
        *("The run did not finish: interrupted", "as it was", "IOMMU_NO_SUCH_THING"),
        "pytest --iommufd-kernel 6.12 --iommufd-rule other.rule",
        *("not yet described: flag IOMMU_TO_COME", "; shows: panicked: <?sysrq"),
    ):
        assert text in page.text


def test_the_page_flags_what_differs_and_what_is_known(data: dict[str, Any]) -> None:
    rules = {rule["slug"]: rule for rule in data["rules"]}
    panics = rules["area.two.panics"]
    assert not panics["differs"]  # the other kernel did not run it
    assert panics["results"]["6.12+posted"]["mark"] == "known defect"
    page = rules_html.render(data)
    assert '<td class="defect"' in page
    assert "known: &lt;script&gt;" in page
    assert page.count('href="#area.two.panics"') == 2  # among the known defects, and at the rule
    assert "<h2>Known defects</h2>" in page
    assert "<h2>Behaviour that differs</h2>" not in page


def test_the_json_is_the_page_s_data(data: dict[str, Any]) -> None:
    assert json.loads(rules_json.render(data)) == data
