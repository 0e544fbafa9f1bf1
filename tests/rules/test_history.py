# SPDX-License-Identifier: GPL-2.0-only
"""`pytest-iommufd history`: what it shows of runs, what is shipped, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_iommufd.commands.main import main
from pytest_iommufd.reports.data import KernelInfo, Run, gather
from pytest_iommufd.reports.history import FILE, dumps, sentence
from pytest_iommufd.reports.runs import load
from pytest_iommufd.rules.catalogue import Catalogue, shipped, suites
from pytest_iommufd.rules.verdicts import NO_KERNEL, Mark, Result, Verdicts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PAGE = Path(__file__).parents[2] / "docs" / "history.md"

# Kernels in no order, and in two of them what a higher version does not have.
OLD, STABLE, MIDDLE, NEW = "6.12.43", "6.12.117", "6.17.8", "7.3.4"
NO_HEADER = "the kernel's header does not define IOMMU_THING"
NO_ANSWER = "the kernel has no IOMMU_THING (ENOTTY)"
HOLDS, ABSENT = Mark.HOLDS, Mark.ABSENT
OK = (HOLDS, "OK", "")
EINVAL = (HOLDS, "EINVAL", "")
DEFECT = (Mark.DEFECT, "OK", "it <does> not | look")
NO_DEVICE = (ABSENT, "", "no PCI device is given to the tests: --iommufd-iommu intel or amd")
GAVE: dict[str, tuple[tuple[Mark, str, str], ...]] = {
    "area.same": (OK, OK, OK, OK),
    "area.same_in_other_words": (*((ABSENT, "", f"no {i}") for i in range(4)),),
    "area.new": ((ABSENT, "", NO_HEADER), (ABSENT, "", NO_HEADER), OK, OK),
    "area.new_stable": ((ABSENT, "", NO_ANSWER), OK, OK, OK),
    "area.new_wrong": ((ABSENT, "", NO_HEADER), (ABSENT, "", NO_ANSWER), DEFECT, DEFECT),
    "area.new_and_mended": ((ABSENT, "", "no way"), DEFECT, DEFECT, EINVAL),
    "area.new_unless_unknown": ((ABSENT, "", "no way"), (Mark.NOT_RUN, "", ""), OK, OK),
    "area.mended_stable": (DEFECT, EINVAL, DEFECT, DEFECT),
    "area.crashed": ((Mark.CRASHED, "", "a panic"), OK, OK, OK),
    "area.broken": (EINVAL, EINVAL, EINVAL, (Mark.VIOLATED, "OK", "expected EINVAL")),
    "area.differs": (OK, (Mark.DIFFERS, "EBUSY", "nobody promises"), OK, OK),
    "area.gone": (OK, OK, (ABSENT, "", "not any more"), (ABSENT, "", "not any more")),
    "area.other": (OK, OK, OK, EINVAL),
    "area.no_device": (NO_DEVICE, OK, OK, NO_DEVICE),
}
TEXT = """\
Kernels
  6.12.43: Linux 6.12.43
  6.12.117: Linux 6.12.117
  6.17.8: Linux 6.17.8
  7.3.4: Linux 7.3.4

New in 6.12.117: 2 rules
  IOMMU_THING: 1 rule (area 1)
  no longer "no way": 1 rule, 1 with a defect (area 1)

New in 6.17.8: 3 rules
  IOMMU_THING: 2 rules, 1 with a defect (area 2)
  no longer "no way": 1 rule (area 1)

Mended: 2 rules
                       6.12.43  6.12.117           6.17.8             7.3.4
  area.crashed         crashed  OK                 OK                 OK
      What area.crashed says.
      6.12.43: a panic
  area.new_and_mended  absent   OK (known defect)  OK (known defect)  EINVAL
      What area.new_and_mended says.
      6.12.43: no way
      6.12.117, 6.17.8: it <does> not | look

Defects of the newest kernel that another does not have: 2 rules
                      6.12.43            6.12.117  6.17.8             7.3.4
  area.broken         EINVAL             EINVAL    EINVAL             OK (violated)
      What area.broken says.
      7.3.4: expected EINVAL
  area.mended_stable  OK (known defect)  EINVAL    OK (known defect)  OK (known defect)
      What area.mended_stable says.
      6.12.43, 6.17.8, 7.3.4: it <does> not | look

Behaviour that nobody has promised: 1 rule
                6.12.43  6.12.117         6.17.8  7.3.4
  area.differs  OK       EBUSY (differs)  OK      OK
      What area.differs says.
      6.12.117: nobody promises

Absent from the newest kernel: 1 rule
             6.12.43  6.12.117  6.17.8  7.3.4
  area.gone  OK       OK        absent  absent
      What area.gone says.
      6.17.8, 7.3.4: not any more

Other results, each as expected of its kernel: 1 rule
              6.12.43  6.12.117  6.17.8  7.3.4
  area.other  OK       OK        OK      EINVAL
      What area.other says.
"""


def written(
    path: Path,
    kernels: Mapping[str, Mapping[str, tuple[Mark, str, str]]],
    changed: Mapping[str, Any] | None = None,
) -> Path:
    """Write the file of a run's --rules-json.

    Args:
        path: the file.
        kernels: by kernel and rule its mark, errno and reason.
        changed: what the file has instead: of the run, and of a kernel by its name.
    """
    changed = changed or {}
    verdicts = Verdicts()
    slugs = sorted({slug for rules in kernels.values() for slug in rules})
    for kernel, rules in kernels.items():
        for slug, (mark, got, why) in rules.items():
            known = why if mark is Mark.DEFECT else ""
            verdicts.add(Result(kernel, slug, mark, got=got, reason=why, known=known))
    verdicts.add(Result(NO_KERNEL, "area.no_kernel", HOLDS))
    verdicts.complete(dict.fromkeys(kernels, ""), slugs)
    catalogue = path.with_name("rules.toml")
    catalogue.write_text(
        "".join(
            f'["{slug}"]\nsays = "What {slug} says."\nsource = ["main.c:f"]\nexpect = "OK"\n'
            'behaviour = "a test"\n'
            for slug in slugs
        )
    )
    infos = {name: KernelInfo(name, name, name, f"Linux {name}") for name in kernels}
    data = gather(verdicts, [Catalogue.load(catalogue)], infos, Run(0, 1, 0))
    data["kernels"] = [kernel | changed.get(kernel["name"], {}) for kernel in data["kernels"]]
    path.write_text(json.dumps(data | changed))
    return path


@pytest.fixture
def runs(tmp_path: Path) -> tuple[str, ...]:
    """Files of two runs, each of two kernels."""
    columns = {
        kernel: {slug: results[i] for slug, results in GAVE.items()}
        for i, kernel in enumerate((OLD, STABLE, MIDDLE, NEW))
    }
    pairs = ((NEW, OLD), (MIDDLE, STABLE))
    return tuple(
        str(written(tmp_path / f"{i}.json", {kernel: columns[kernel] for kernel in pair}))
        for i, pair in enumerate(pairs)
    )


@pytest.fixture
def history(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the command; returns what it prints."""

    def run(*arguments: str) -> str:
        assert main(["history", *arguments]) == 0
        return capsys.readouterr().out

    return run


def test_what_changed_is_shown_by_capability_and_by_rule(
    history: Callable[..., str], runs: tuple[str, ...]
) -> None:
    """What a rule gave counts, not why; "6.12.117" is above "6.12.43"."""
    lead, _, parts = history("--run", *runs).partition("\n\n")
    assert "not the history of one branch" in " ".join(lead.split())
    assert parts == TEXT


def test_rules_that_are_asked_for_are_named(
    history: Callable[..., str], runs: tuple[str, ...]
) -> None:
    out = history("area.new_w*", "area.other", "--run", *runs)
    assert "IOMMU_THING: 1 rule, 1 with a defect (area 1)\n" in out
    assert "  area.new_wrong, OK (known defect): What area.new_wrong says.\n" in out
    assert "area.other" in out
    assert "area.gone" not in out


def test_a_run_may_have_a_rule_by_its_former_name(
    tmp_path: Path, history: Callable[..., str]
) -> None:
    today, former = "pages.limit.lowered", "pages.limit.raised"
    old = written(tmp_path / "old.json", {OLD: {former: (HOLDS, "OK", "")}})
    new = written(tmp_path / "new.json", {NEW: {today: (Mark.VIOLATED, "ENOMEM", "")}})
    out = history(former, "--run", str(old), str(new))
    assert today in out
    assert former not in out
    assert out == history("pages.limit.*", "--run", str(old), str(new))


def test_the_page_has_a_table_with_a_column_for_each_kernel(
    history: Callable[..., str], runs: tuple[str, ...]
) -> None:
    out = history("--run", *runs, "--format", "markdown")
    assert "## New in 6.17.8: 3 rules\n\n- IOMMU_THING: 2 rules" in out
    assert (
        "| rule | 6.12.43 | 6.12.117 | 6.17.8 | 7.3.4 |\n| --- | --- | --- | --- | --- |\n" in out
    )
    assert (
        "| `area.mended_stable`<br>What area.mended_stable says.<br>"
        r"6.12.43, 6.17.8, 7.3.4: it \<does> not \| look | "
        "OK (known defect) | EINVAL | OK (known defect) | OK (known defect) |\n"
    ) in out


def test_json_has_the_changes_and_can_be_read_again(
    history: Callable[..., str], runs: tuple[str, ...], tmp_path: Path
) -> None:
    out = history("--run", *runs, "--format", "json")
    data = json.loads(out)
    assert [kernel["release"] for kernel in data["kernels"]] == [OLD, STABLE, MIDDLE, NEW]
    assert data["rules"]["area.new_and_mended"] == {
        "says": "What area.new_and_mended says.",
        OLD: {"mark": "absent", "why": "no way"},
        STABLE: {"mark": "known defect", "gave": "OK", "why": "it <does> not | look"},
        NEW: {"mark": "holds", "gave": "EINVAL"},
    }
    assert data["rules"]["area.new_unless_unknown"][STABLE] == {"mark": "not run"}
    assert sorted(data["rules"]) == [*data["rules"]]
    for slug, rule in data["rules"].items():
        assert f'\n  "{slug}": {json.dumps(rule)}' in out
    again = tmp_path / "again.json"
    again.write_text(out)
    assert history("--run", str(again), "--format", "json") == out
    assert history("--run", str(again)) == history("--run", *runs)


def test_sentences_of_the_suites_are_not_repeated(
    history: Callable[..., str], tmp_path: Path
) -> None:
    slug = "hwpt_type.selftest.data.field.iotlb.outside"
    columns = {OLD: {slug: OK}, NEW: {slug: EINVAL}}
    run = str(written(tmp_path / "run.json", columns))
    (rule,) = json.loads(history("--run", run, "--format", "json"))["rules"].values()
    assert set(rule) == {OLD, NEW}
    assert "each value that the field is declared" in sentence(slug)
    assert sentence(slug) in history("--run", run)


def test_a_candidate_comes_before_its_release(tmp_path: Path) -> None:
    kernels = ("6.18.0", "6.18.0-rc10", "6.18.0-rc9-00012-gabcdef", "6.9.1+deb13-amd64")
    run = written(tmp_path / "run.json", {kernel: {"area.one": OK} for kernel in kernels})
    assert list(load([run]).kernels) == list(reversed(kernels))


def test_kernels_that_do_not_differ_have_an_empty_page(
    history: Callable[..., str], tmp_path: Path
) -> None:
    columns = {kernel: {"area.one": OK, "area.two": NO_DEVICE} for kernel in (OLD, NEW)}
    out = history("--run", str(written(tmp_path / "run.json", columns)))
    assert out.endswith("\n\nAll rules gave the same on these kernels\n")


TWO = {OLD: {"area.one": OK}, NEW: {"area.one": EINVAL}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 1}, "is of another version of pytest-iommufd: its schema is 1"),
        ({"stopped": "interrupted"}, "is of a run that was stopped: interrupted"),
        ({"exit_status": 4}, "is of a run that ended with status 4"),
        ({"kernels": []}, "is of a run that tested no rule on a kernel"),
        ({"rules": []}, "is of a run that tested no rule on a kernel"),
        (
            {NEW: {"source": "linux-source-7.3 7.3.4-1 (Debian) + gcov (1 patch)"}},
            "has the kernel 7.3.4, which is patched with gcov",
        ),
        ({OLD: {"release": ""}}, "has the kernel 6.12.43, whose release is not known: ''"),
        ({OLD: {"counts": {"not run": 1}}}, "has the kernel 6.12.43, on which no rule was run"),
        ({"rules": [{}]}, "is damaged: KeyError: 'slug'"),
        ({"history": 2}, "is of another version of pytest-iommufd: its history is 2"),
    ],
)
def test_runs_that_say_nothing_of_linux_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], message: str
) -> None:
    run = written(tmp_path / "run.json", TWO, changes)
    assert main(["history", "--run", str(run)]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    first, expected, mend = error.splitlines()
    assert first == f"pytest-iommufd: {run} {message}"
    assert expected.startswith("expected: ")
    assert mend.startswith("to mend it: pytest suites --kernel ")
    assert mend.endswith(" --rules-json RUN.json")


def test_a_release_is_given_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = (written(tmp_path / f"{i}.json", TWO) for i in range(2))
    assert main(["history", "--run", str(one), str(other)]) == 2
    assert f"two kernels are of the release {OLD}, in {one} and {other}" in capsys.readouterr().err
    same = written(tmp_path / "same.json", TWO, {NEW: {"release": OLD}})
    assert main(["history", "--run", str(same)]) == 2
    assert f"two kernels are of the release {OLD}, in {same}" in capsys.readouterr().err


def test_one_kernel_is_not_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = written(tmp_path / "run.json", {OLD: TWO[OLD]})
    assert main(["history", "--run", str(run)]) == 2
    assert f"there is nothing to compare {OLD} with" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read {}: No such file or directory"),
        ("", "{} is not JSON: "),
        ("[]", "{} has no rules of a run in it"),
        ("{}", "{} has no rules of a run in it"),
        (
            '{"history": 1, "kernels": [], "rules": {"a.b": {"7.3": {"mark": "holds"}}}}',
            "{} is damaged: ValueError: a.b names '7.3', which is none of the kernels",
        ),
        (
            '{"history": 1, "kernels": [], "rules": {"a.b": {}}}',
            "{} is damaged: ValueError: a.b gave the same on all kernels",
        ),
    ],
)
def test_what_is_no_run_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, message: str
) -> None:
    path = tmp_path / "run.json"
    if content is not None:
        path.write_text(content)
    assert main(["history", "--run", str(path)]) == 2
    assert capsys.readouterr().err.startswith(f"pytest-iommufd: {message.format(path)}")


def test_a_history_and_a_run_are_not_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, made = written(tmp_path / "run.json", TWO), tmp_path / "made.json"
    made.write_text(dumps(load([run])))
    assert main(["history", "--run", str(run), str(made)]) == 2
    assert f"{made} has only rules that differ" in capsys.readouterr().err


def test_rules_that_do_not_differ_are_not_found(
    runs: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["history", "area.same", "nothing.*", "--run", *runs]) == 2
    assert "no rule area.same or nothing.* is known to differ" in capsys.readouterr().err


def test_the_page_is_of_the_shipped_file(history: Callable[..., str]) -> None:
    """Else: pytest-iommufd history --format markdown > docs/history.md."""
    assert PAGE.read_text("utf-8") == history("--format", "markdown")


def test_what_kernels_do_otherwise_is_explained_by_the_catalogue() -> None:
    """Nothing is violated on the kernels of the page, and each difference has a known reason."""
    known = {
        one.why
        for catalogue in shipped()
        for rule in catalogue.rules.values()
        for one in (*rule.defects, *rule.differences)
    }
    for slug, rule in load().rules.items():
        for kernel, given in rule.results.items():
            assert given.mark not in {Mark.VIOLATED, Mark.CRASHED}, (slug, kernel)
            if given.mark in {Mark.DEFECT, Mark.DIFFERS}:
                assert given.why in known, (slug, kernel)


def test_rules_show_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", "ioas.*"]) == 0
    shown = capsys.readouterr().out
    assert main(["rules", "--history", "ioas.*"]) == 0
    assert capsys.readouterr().out == shown


def test_the_shipped_file_is_as_it_is_written_and_of_rules_that_exist() -> None:
    """Of a rule of the suites it has no sentence, and nothing that a run was not given."""
    history, text = load(), (suites() / FILE).read_text("utf-8")
    assert text == dumps(history)
    catalogues = list(shipped())
    assert [slug for slug in history.rules if not any(one.has(slug) for one in catalogues)] == []
    assert '"says"' not in text
    assert "--iommufd-iommu" not in text
