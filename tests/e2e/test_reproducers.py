# SPDX-License-Identifier: GPL-2.0-only
"""Reproducers compile, and do on the same kernel what the test did."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from guest_program import compiled, release_of, run
from mutants_hwpt_alloc import MUTANTS

from pytest_iommufd.kernel import resolve
from pytest_iommufd.kernel.cache.store import default_root
from pytest_iommufd.lab import Bench, Settings
from pytest_iommufd.machine import KernelPanicked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_iommufd.kernel import Kernel

# By kernel: rules of one test each.
RULES = {
    "7.3": {
        "hwpt_alloc.parent.nested": "an errno",
        "hwpt_alloc.failure.fault_lookup": "an injected failure",
        "ioas.map.iova_to_the_end": "memory, and a value",
        "ioas.map.length_all": "an errno",
        "ioas.change_process.unmapped_later": "a fork",
        "access.rw.other_process": "operations of iommufd_test, and bytes, of two processes",
        "fault_queue.threads.answer": "threads",
        "vfio_compat.version": "a value, of VFIO",
    },
    "6.12": {"hwpt_alloc.parent.nested": "an errno", "ioas.map.iova_to_the_end": "a value"},
}
# Rules that 7.3 is known to break, each in another way; which of them 6.12 holds.
DEFECTS = {
    "dirty_tracking.get.unmapped": "holds",
    "hwpt_alloc.pt_id.destroyed": "known defect",
    "generic.divergence.hwpt_alloc_unknown_pt_id": "known defect",
    "viommu.reserved": "absent",
}
HOLDS, VIOLATED, ASTRAY = 0, 1, 2
EXIT = {"holds": HOLDS, "known defect": VIOLATED, "absent": ASTRAY}
SELFTEST = "tools/testing/selftests"
# Of the kernel, for its selftest; make would install a thousand.
HEADERS = ("iommufd.h", "stddef.h", "vfio.h")


@pytest.fixture(scope="module")
def bench_of() -> Iterator[Callable[[str], Bench]]:
    """The bench of a kernel; its guest is stopped at the end."""
    made: dict[str, Bench] = {}

    def get(spec: str) -> Bench:
        if spec not in made:
            made[spec] = Bench(resolve(spec), Settings(default_root()))
        return made[spec]

    yield get
    for bench in made.values():
        bench.machine.stop()


@pytest.fixture
def reproduce(pytester: pytest.Pytester) -> Callable[..., tuple[list[Path], dict[str, str]]]:
    """Runs rules on a kernel; returns their reproducers, and what each rule gave."""

    def make(
        spec: str, *rules: str, form: str = "c", mark: str = "holds"
    ) -> tuple[list[Path], dict[str, str]]:
        result = pytester.runpytest_subprocess(
            *("-p", "no:cacheprovider", "--kernel", spec, "--rules-json", "rules.json"),
            *("--reproducer", form, "--reproducer-of", "all"),
            *(f"--rule={rule}" for rule in rules),
            *(
                "--pyargs",
                *sorted({f"pytest_iommufd.suites.{rule.partition('.')[0]}" for rule in rules}),
            ),
        )
        assert result.ret == 0
        rows = json.loads((pytester.path / "rules.json").read_text())["rules"]
        results = {row["slug"]: row["results"][spec] for row in rows if row["slug"] in rules}
        assert [result["mark"] for result in results.values()] == [mark] * len(rules)
        gave = {slug: result["got"] for slug, result in results.items()}
        return sorted((pytester.path / "reproducers").iterdir()), gave

    return make


def check(bench: Bench, sources: list[Path], gave: dict[str, str]) -> None:
    for source in sources:
        ran = run(bench.machine, compiled(source))
        rule = source.name.partition(f"-{bench.kernel.name}")[0]
        assert ran.exit == HOLDS, f"{source.name}\n{ran.output}"
        judged = re.findall(r"^\S+: (\w+), as the rule wants: (\w+)$", ran.output, re.MULTILINE)
        assert {answer for _, answer in judged} <= {"yes"}
        if gave[rule] not in ("", "OK"):
            assert gave[rule] in {errno for errno, _ in judged}, ran.output
        assert re.search(rf"^{re.escape(rule)} wants .*: HOLDS$", ran.output, re.MULTILINE)


@pytest.mark.parametrize("spec", RULES)
def test_programs_do_what_the_tests_did(
    spec: str,
    reproduce: Callable[..., tuple[list[Path], dict[str, str]]],
    bench_of: Callable[[str], Bench],
) -> None:
    sources, gave = reproduce(spec, *RULES[spec])
    assert len(sources) >= len(RULES[spec])
    check(bench_of(spec), sources, gave)


def test_program_of_a_known_defect_tells_who_has_it(
    reproduce: Callable[..., tuple[list[Path], dict[str, str]]],
    bench_of: Callable[[str], Bench],
) -> None:
    sources, _ = reproduce("7.3", *DEFECTS, mark="known defect")
    assert len(sources) == len(DEFECTS)
    for source in sources:
        text = " ".join(source.read_text().partition("*/")[0].replace("\n *", " ").split())
        assert "Promised by: iommufd.h, " in text or "get.unmapped" in source.name
        assert re.search(r"Known defect: expected E\w+, got \w+: \w+\(\) ", text)
        program = compiled(source)
        ran = run(bench_of("7.3").machine, program)
        assert ran.exit == VIOLATED, f"{source.name}\n{ran.output}"
        ran = run(bench_of("6.12").machine, program)
        expected = EXIT[DEFECTS[source.name.partition("-")[0]]]
        if "get.unmapped" in source.name and release_of("6.12") < (6, 12, 118):
            expected = VIOLATED
        assert ran.exit == expected, f"{source.name}\n{ran.output}"


def test_panic_is_reproduced(pytester: pytest.Pytester, bench_of: Callable[[str], Bench]) -> None:
    rule = "hwpt_alloc.data.nested.unknown_type"
    spec = "6.12+hwpt-alloc-v2"
    pytester.runpytest_subprocess(
        *("-p", "no:cacheprovider", "--kernel", spec, "--reproducer=c", f"--rule={rule}"),
        *("--pyargs", "pytest_iommufd.suites.hwpt_alloc"),
    )
    (source,) = (pytester.path / "reproducers").iterdir()
    program = compiled(source)
    with pytest.raises(KernelPanicked):
        run(bench_of(spec).machine, program)


def test_program_tells_a_wrong_kernel_from_a_right_one(
    run_edited: Callable[..., pytest.RunResult],
    pytester: pytest.Pytester,
    bench_of: Callable[[str], Bench],
) -> None:
    rule = "hwpt_alloc.parent.nested"
    mutant = next(one for one in MUTANTS if rule.partition(".")[2] in one.rules.split())
    run_edited(mutant.spec, mutant.apply, "--reproducer=c", f"--rule={rule}")
    sources = sorted((pytester.path / "reproducers").iterdir())
    assert [source.name for source in sources] == [f"{rule}-{mutant.spec}.c"]
    wrong = Bench(_edited(resolve(mutant.spec), pytester.path), Settings(default_root()))
    try:
        for source in sources:
            program = compiled(source)
            assert run(wrong.machine, program).exit == VIOLATED
            right = run(bench_of(mutant.spec).machine, program)
            assert right.exit == HOLDS, right.output
    finally:
        wrong.machine.stop()


def _edited(kernel: Kernel, folder: Path) -> Kernel:
    """Return a kernel with the modules that run_edited has built."""
    modules = tuple(map(Path, (folder / "modules.txt").read_text().splitlines()))
    return dataclasses.replace(kernel, modules=modules)


def test_kselftest_form_passes_within_the_kernels_selftest(
    reproduce: Callable[..., tuple[list[Path], dict[str, str]]],
    bench_of: Callable[[str], Bench],
    tmp_path: Path,
) -> None:
    rules = ("ioas.map.iova_to_the_end", "ioas.map.length_all")
    sources, _ = reproduce("7.3", *rules, form="kselftest")
    bench = bench_of("7.3")
    bodies = [source.read_text() for source in sources]
    names = re.findall(r"^TEST_F\(iommufd, (\w+)\)", "\n".join(bodies), re.MULTILINE)
    assert len(names) == len(rules)
    program = _selftest(bench.kernel, tmp_path, "\n".join(bodies))
    chosen = [word for name in names for word in ("-t", name)]
    output = run(bench.machine, program, *chosen).output
    for name in names:
        assert re.search(rf"^ok \d+ iommufd\.{name}$", output, re.MULTILINE), output


def _selftest(kernel: Kernel, folder: Path, bodies: str) -> Path:
    """Build the kernel's own selftest with more in it."""
    assert kernel.tree
    headers = folder / "headers" / "linux"
    headers.mkdir(parents=True)
    for name in HEADERS:
        shutil.copy(kernel.tree / "include/uapi/linux" / name, headers)
    selftests = kernel.tree / SELFTEST
    text = (selftests / "iommu" / "iommufd.c").read_text()
    source = folder / "iommufd.c"
    source.write_text(text.replace("TEST_HARNESS_MAIN", f"{bodies}\nTEST_HARNESS_MAIN"))
    libcap = Path(__file__).parents[1] / "benchmarks" / "libcap"
    return compiled(
        source,
        *("-w", "-D_GNU_SOURCE=", "-D__user=", "-I", str(libcap), "-isystem", str(headers.parent)),
        *("-I", str(selftests), "-I", str(selftests / "iommu")),
    )
