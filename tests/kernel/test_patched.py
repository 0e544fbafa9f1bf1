# SPDX-License-Identifier: GPL-2.0-only
"""Patched kernels: applying series, and building what they touch."""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING

import pytest
from kernel_helpers import AMD, HWPT, Recorder, add_sources, entries, make_diff, make_series

from pytest_iommufd.commands.main import main
from pytest_iommufd.errors import Problem
from pytest_iommufd.kernel import Kernel, ready, resolve
from pytest_iommufd.kernel.series.patches import Patch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.skipif(not shutil.which("patch"), reason="patch is not on this machine")


@pytest.fixture(autouse=True)
def _machine(fakes: Path, cache: Path, tree: Path) -> None:
    del fakes, cache
    add_sources(tree)


@pytest.fixture
def series(tmp_path: Path) -> Path:
    return make_series(tmp_path / "v2", make_diff(at=10), make_diff(at=30))


@pytest.fixture(params=["6.12", "tree"])
def base(request: pytest.FixtureRequest, tree: Path) -> str:
    return str(tree) if request.param == "tree" else request.param


def content(tree: Path) -> dict[str, tuple[str, int, int]]:
    return {
        str(path): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
            path.stat().st_mode,
            path.stat().st_mtime_ns,
        )
        for path in tree.rglob("*")
    }


def compiled(kernel: Kernel) -> list[str]:
    assert kernel.log
    lines = (line.split() for line in kernel.log.read_text().splitlines())
    return [words[1] for words in lines if words[:1] == ["CC"] and words[1] != "init/main.o"]


def source(kernel: Kernel, name: str) -> str:
    assert kernel.tree
    return (kernel.tree / name).read_text()


def test_patched(base: str, series: Path, cache: Path, progress: Recorder) -> None:
    plain = resolve(base)
    assert plain.tree
    before = content(plain.tree)
    kernel = resolve(f"{base}+{series}", progress=progress)
    assert content(plain.tree) == before
    assert kernel.name == f"{plain.name}+v2"
    assert kernel.source == f"{plain.source} + v2 (2 patches)"
    assert source(kernel, HWPT).count("new\n") == 2
    assert kernel.tree
    assert kernel.image
    assert kernel.tree.parent == kernel.image.parent
    assert compiled(kernel) == ["drivers/iommu/iommufd/hwpt.o"], "and nothing else"
    assert "applying v2 (2 patches)" in progress.steps
    assert ready(f"{base}+{series}") == resolve(f"{base}+{series}") == kernel
    assert ready(base) == plain
    assert len(entries(cache)) == 2


def test_base_is_built_first(series: Path, calls: Callable[[str], list[str]]) -> None:
    assert ready(f"6.12+{series}") is None
    resolve(f"6.12+{series}")
    assert ready("6.12")
    assert sum("bzImage" in call for call in calls("make")) == 2


def test_more_than_the_module(tmp_path: Path) -> None:
    kernel = resolve(f"6.12+{make_series(tmp_path / 'v3', make_diff(), make_diff(AMD))}")
    assert compiled(kernel) == ["drivers/iommu/amd/amd.o", "drivers/iommu/iommufd/hwpt.o"]


def test_files_are_shared_only_if_no_patch_touches_them(
    series: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, kernel = resolve("6.12"), resolve(f"6.12+{series}")
    assert plain.tree
    assert kernel.tree
    assert (kernel.tree / AMD).samefile(plain.tree / AMD)
    assert not (kernel.tree / HWPT).samefile(plain.tree / HWPT)
    kernel = resolve(f"{tree}+{series}")
    assert kernel.tree
    assert not (kernel.tree / AMD).samefile(tree / AMD), "its user edits it"
    monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(OSError(18, "cross-device")))
    assert main(["kernel", "clean", f"6.12+{series}"]) == 0
    assert source(resolve(f"6.12+{series}"), AMD) == source(plain, AMD)


def test_patch_does_not_write_through_links(series: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = resolve("6.12").tree
    assert tree
    before = content(tree)
    monkeypatch.setattr(Patch, "files", frozenset())
    kernel = resolve(f"6.12+{series}")
    assert "new\n" in source(kernel, HWPT)
    assert content(tree) == before


def test_git_history_is_not_copied(tree: Path, series: Path) -> None:
    (tree / ".git").mkdir()
    kernel = resolve(f"{tree}+{series}")
    assert kernel.tree
    assert not (kernel.tree / ".git").exists()


def test_several_in_order(tmp_path: Path) -> None:
    one = make_series(tmp_path / "one", make_diff(new="first"))
    two = make_series(tmp_path / "two", make_diff(old="first", new="second"))
    kernel = resolve(f"6.12+{one}+{two}")
    assert "second\n" in source(kernel, HWPT)
    assert kernel.source.endswith(" + one (1 patch) + two (1 patch)")
    with pytest.raises(Problem, match="patch series two does not apply to linux-source-6"):
        resolve(f"6.12+{two}+{one}")
    three = make_series(tmp_path / "three", make_diff(old="none", new="third"))
    with pytest.raises(Problem, match=r"\(Debian\) \+ one \(1 patch\)"):
        resolve(f"6.12+{one}+{three}")


def test_edit_of_a_patch_is_another_kernel(series: Path, cache: Path) -> None:
    first = resolve(f"6.12+{series}")
    patch = series / "0002-x.patch"
    for number in range(4):
        patch.write_text(patch.read_text().replace("+new", f"+new{number}"))
        assert ready(f"6.12+{series}") is None
        assert resolve(f"6.12+{series}").image != first.image
    assert len(entries(cache)) == 4, "the base and the last three"
    assert ready("6.12")


def test_goes_with_the_newest_base(series: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve(f"6.12+{series}")
    monkeypatch.setenv("FAKE_OFFERS", "6.12=6.12.2-1")
    resolve("6.12", update=True)
    assert ready(f"6.12+{series}") is None
    assert "6.12.2-1" in resolve(f"6.12+{series}").source


def test_edit_of_the_tree_is_another_kernel(tree: Path, series: Path) -> None:
    first = resolve(f"{tree}+{series}")
    (tree / "edit.c").write_text("int x;")
    second = resolve(f"{tree}+{series}")
    assert second.image != first.image
    assert source(second, "edit.c") == "int x;"


@pytest.mark.parametrize(
    ("diff", "what", "detail"),
    [
        (make_diff(old="unlike"), "does not apply to", f"{HWPT}: hunk 1 does not match at line 18"),
        (make_diff(f"{HWPT}.c"), "does not apply to", f"{HWPT}.c: there is no such file"),
        (
            make_diff(old="new", new="line 20"),
            "does not apply to",
            f"{HWPT}: it is applied already",
        ),
        (make_diff().replace("@@ -18,7 ", "@@ -18,9 "), "is malformed", "patch says: "),
        (make_diff().replace(" line 21", "line 21"), "is malformed", "malformed patch at line"),
        (
            f"--- /dev/null\n+++ b/{AMD}\n@@ -0,0 +1 @@\n+x\n",
            "does not apply to",
            f"{AMD}: it is to be created and is there already",
        ),
        (
            "diff --git a/b.bin b/b.bin\nnew file mode 100644\nGIT binary patch\nliteral 1\nIcmZ\n",
            "does not apply to",
            "b.bin: a binary diff",
        ),
    ],
)
def test_patch_that_does_not_apply(
    tmp_path: Path, cache: Path, diff: str, what: str, detail: str
) -> None:
    series = make_series(tmp_path / "v9", make_diff(AMD), diff)
    with pytest.raises(Problem) as caught:
        resolve(f"6.12+{series}")
    problem = caught.value
    assert f'0002-x.patch ("change 2") of patch series v9 {what}' in problem.what
    assert detail in problem.detail
    if what != "is malformed":
        assert "linux-source-6.12 6.12.1-1 (Debian)" in problem.what
    assert [name.partition("-")[0] for name in entries(cache)] == ["6.12"]
    assert ready("6.12")


def test_second_hunk(tmp_path: Path) -> None:
    both = make_diff(at=10) + make_diff(at=30, old="unlike").split("\n", 2)[2]
    with pytest.raises(Problem) as caught:
        resolve(f"6.12+{make_series(tmp_path / 'v9', both)}")
    assert caught.value.detail == f"  {HWPT}: hunk 2 does not match at line 28"


def test_outside_the_tree(tmp_path: Path) -> None:
    diff = make_diff().replace(HWPT, "../../outside.c")
    with pytest.raises(Problem, match="does not apply"):
        resolve(f"6.12+{make_series(tmp_path / 'v9', diff)}")


@pytest.mark.parametrize("mode", ["fail", "full"])
def test_build_that_fails(
    series: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    resolve("6.12")
    monkeypatch.setenv("FAKE_MODE", mode)
    with pytest.raises(Problem, match=r"does not build|no space left"):
        resolve(f"6.12+{series}")
    assert len(entries(cache)) == 1


def test_full_while_copying(series: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve("6.12")

    def link(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.link", link)
    with pytest.raises(Problem, match="no space left"):
        resolve(f"6.12+{series}")
    assert len(entries(cache)) == 1


def test_patch_is_needed_only_for_series(fakes: Path, series: Path) -> None:
    (fakes / "patch").unlink()
    resolve("6.12")
    with pytest.raises(Problem, match="missing on this machine: patch"):
        resolve(f"6.12+{series}")


def test_source_of_the_base_is_gone(series: Path, cache: Path) -> None:
    resolve("6.12")
    shutil.rmtree(cache / "sources")
    with pytest.raises(Problem, match=r"the source of kernel 6\.12 is gone") as caught:
        resolve(f"6.12+{series}")
    assert "kernel clean 6.12" in caught.value.mend


def test_command_line(series: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = f"6.12+{series}"
    assert main(["kernel", "path", spec]) == 2
    assert main(["kernel", "build", spec]) == 0
    assert main(["kernel", "list"]) == 0
    assert "\t0.0 GB\tlinux-source-6.12 6.12.1-1 (Debian) + v2" in capsys.readouterr().out
    assert main(["kernel", "path", spec]) == 0
    assert "6.12+v2" in capsys.readouterr().out
    assert main(["kernel", "clean", "6.12"]) == 0
    assert [name.rpartition("-")[0] for name in entries(cache)] == ["6.12+v2"]
    assert ready(spec), "it needs nothing of its base"
    resolve("6.12")
    assert main(["kernel", "clean", spec]) == 0
    assert [name.rpartition("-")[0] for name in entries(cache)] == ["6.12"]
    assert list((cache / "sources").iterdir())


def test_clean_by_name_when_the_series_is_gone(series: Path, cache: Path) -> None:
    resolve(f"6.12+{series}")
    shutil.rmtree(series)
    assert main(["kernel", "clean", f"6.12+{series}"]) == 2
    assert main(["kernel", "clean", "6.12+v2"]) == 0
    assert len(entries(cache)) == 1
