# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from kernel_helpers import Recorder, entries

from pytest_iommufd.errors import Problem
from pytest_iommufd.kernel import ready, rebuild_module, resolve
from pytest_iommufd.kernel.source.mirrors import Mirror

needs_git = pytest.mark.skipif(not shutil.which("git"), reason="git is not on this machine")
Calls = Callable[[str], list[str]]


@pytest.fixture(autouse=True)
def _machine(fakes: Path, cache: Path) -> None:
    del fakes, cache


def test_tree(tree: Path, cache: Path, progress: Recorder) -> None:
    kernel = resolve(str(tree), progress=progress)
    assert kernel.release == "6.12.1-fake"
    assert kernel.source.startswith(f"tree {tree}")
    assert kernel.image
    assert kernel.image.is_relative_to(cache)
    assert [path.name for path in kernel.modules] == ["tree.ko", "iommufd.ko"]
    assert kernel.uapi
    assert kernel.uapi.exists()
    assert kernel.log
    assert "CC      init/main.o" in kernel.log.read_text()
    assert progress.steps == ["configuring", "building", "reading the uAPI headers", "done"]


def test_tree_is_not_written_to(tree: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in tree.rglob("*")}
    resolve(str(tree))
    assert {path: path.stat().st_mtime_ns for path in tree.rglob("*")} == before


def test_cached(tree: Path, calls: Calls, progress: Recorder) -> None:
    first = resolve(str(tree))
    made = len(calls("make"))
    assert ready(str(tree)) == resolve(str(tree), progress=progress) == first
    assert len(calls("make")) == made
    assert progress.steps == []


def test_ready_does_not_build(tree: Path, calls: Calls) -> None:
    assert ready(str(tree)) is None
    assert ready("6.12") is None
    assert calls("make") == []


def test_an_edit_is_another_kernel_built_from_the_last(tree: Path, progress: Recorder) -> None:
    first = resolve(str(tree))
    (tree / "edit.c").write_text("int x;")
    assert ready(str(tree)) is None
    second = resolve(str(tree), progress=progress)
    assert second.image != first.image
    assert progress.steps[0].startswith("copying the last build")


def commit(tree: Path) -> None:
    config = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    for words in (["init"], ["add", "."], ["commit", "-m", "x"]):
        subprocess.run(["git", "-C", tree, *config, *words], check=True, capture_output=True)


@needs_git
def test_git_edits_count(tree: Path) -> None:
    commit(tree)
    first = resolve(str(tree)).image
    (tree / "Makefile").touch()
    assert resolve(str(tree)).image == first
    (tree / "Makefile").write_text("VERSION = 7\n")
    second = resolve(str(tree)).image
    (tree / "new.c").write_text("int x;")
    third = resolve(str(tree)).image
    assert len({first, second, third}) == 3


@needs_git
@pytest.mark.parametrize("series", ["", "+HEAD~1..HEAD"])
def test_git_that_refuses_another_user_s_tree(
    tree: Path, monkeypatch: pytest.MonkeyPatch, series: str
) -> None:
    commit(tree)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(Problem, match=f"git refuses to read {tree}: it belongs to") as caught:
        resolve(f"{tree}{series}")
    assert caught.value.mend == f"git config --global --add safe.directory {tree}"


@needs_git
def test_without_git_what_git_keeps_does_not_count(tree: Path, fakes: Path) -> None:
    commit(tree)
    (fakes / "git").unlink()
    first = resolve(str(tree)).image
    (tree / ".git/index").touch()
    assert resolve(str(tree)).image == first


def test_only_the_last_builds_of_a_tree_are_kept(tree: Path, cache: Path) -> None:
    for number in range(5):
        (tree / "edit.c").write_text("x" * number)
        resolve(str(tree))
    assert len(entries(cache)) == 3


def test_another_compiler_is_another_kernel(
    tree: Path, fakes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve(str(tree))
    gcc = fakes / "gcc"
    gcc.write_text(gcc.read_text().replace("gcc (Fake) 1.2.3", "gcc (Fake) 4.5.6"))
    assert ready(str(tree)) is None
    monkeypatch.setenv("PATH", "/nonexistent")
    assert ready(str(tree)), "without a compiler, a kernel of any is good enough"


def test_package(cache: Path, calls: Calls, progress: Recorder) -> None:
    kernel = resolve("6.12", progress=progress)
    assert kernel.source == "linux-source-6.12 6.12.1-1 (Debian)"
    assert kernel.tree == cache / "sources/linux-source-6.12_6.12.1-1"
    assert {path.name for path in kernel.tree.iterdir()} == {"Makefile", "Kconfig", "drivers"}
    asked = len(calls("apt-cache"))
    assert resolve("6.12") == kernel
    assert len(calls("apt-cache")) == asked, "a built kernel is found without apt"


def test_package_that_only_the_private_lists_have(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_PRIVATE_ONLY", "1")
    monkeypatch.setattr("pytest_iommufd.kernel.source.packages.find_mirrors", _mirror)
    resolve("6.12")
    assert sum("update" in call for call in calls("apt-get")) == 1


def test_machine_lists_older_than_the_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_MODE", "stale")
    monkeypatch.setattr("pytest_iommufd.kernel.source.packages.find_mirrors", _mirror)
    assert resolve("6.12").name == "6.12"


def test_package_that_cannot_be_downloaded(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_MODE", "no-download")
    with pytest.raises(Problem, match="cannot be downloaded") as caught:
        resolve("6.12")
    assert "404" in caught.value.detail
    assert list((cache / "sources").iterdir()) == []


def test_update_takes_a_newer_package(monkeypatch: pytest.MonkeyPatch) -> None:
    old = resolve("6.12")
    monkeypatch.setenv("FAKE_OFFERS", "6.12=6.12.2-1")
    assert resolve("6.12") == old
    new = resolve("6.12", update=True)
    assert "6.12.2-1" in new.source
    assert resolve("6.12") == new


def test_version_that_nothing_offers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_iommufd.kernel.source.packages.find_mirrors", _mirror)
    with pytest.raises(Problem, match=r"no source package linux-source-9\.9") as caught:
        resolve("9.9")
    assert caught.value.expected == "one of 6.1, 6.12"


def test_release_of_kernel_org(cache: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_iommufd.kernel.source.packages.find_mirrors", _mirror)
    kernel = resolve("7.1.13")
    assert kernel.name == "7.1.13"
    assert kernel.source == "linux 7.1.13-1~bpo13+1 (Debian)"
    assert kernel.tree == cache / "sources/linux_7.1.13-1~bpo13+1"
    assert {path.name for path in kernel.tree.iterdir()} == {"Makefile", "Kconfig", "drivers"}
    _, source = (call for call in calls("apt-get") if "source" in call)
    assert source.split()[-3:] == ["--download-only", "--tar-only", "linux=7.1.13-1~bpo13+1"]
    sources = (cache / "apt/upstream/private.sources").read_text()
    assert "Types: deb-src" in sources
    assert "Suites: sid" in sources
    asked = len(calls("apt-cache"))
    assert resolve("7.1.13", update=True) == kernel
    assert len(calls("apt-cache")) == asked, "a release never changes"


def test_release_that_a_mirror_has_only_with_debian_s_patches(
    cache: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_iommufd.kernel.source.packages.find_mirrors", _mirror)
    exact = resolve("6.12.1")
    assert exact.source == "linux-source-6.12 6.12.1-1 (Debian)"
    assert any("download linux-source-6.12=6.12.1-1" in call for call in calls("apt-get"))
    assert resolve("6.12.1") == exact
    monkeypatch.setenv("FAKE_OFFERS", "6.12=6.12.2-1")
    assert "6.12.2-1" in resolve("6.12").source, "what was asked for exactly is not what X.Y is"
    assert len(list((cache / "sources").iterdir())) == 2


def test_release_that_no_mirror_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_iommufd.kernel.source.packages.find_mirrors", _mirror)
    with pytest.raises(Problem, match=r"no source of Linux 6\.12\.7") as caught:
        resolve("6.12.7")
    assert caught.value.expected == "one of 6.12.1, 6.12.9, 7.1.13"


def test_release_without_a_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_iommufd.kernel.source.packages.find_mirrors", list)
    with pytest.raises(Problem, match="no source of Linux") as caught:
        resolve("7.1.13")
    assert "a Debian mirror" in caught.value.expected


def test_no_apt(fakes: Path) -> None:
    (fakes / "apt-get").unlink()
    with pytest.raises(Problem, match="this machine has no apt"):
        resolve("6.12")


def test_compile_error(tree: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_MODE", "fail")
    with pytest.raises(Problem, match="does not build") as caught:
        resolve(str(tree))
    problem = caught.value
    assert "expected ';' before 'static'" in problem.detail, "the cause, far above the end"
    assert "Error 2" in problem.detail
    assert len(problem.detail.splitlines()) < 60
    log = Path(problem.mend.rpartition(" ")[2])
    assert "other59.o" in log.read_text()
    assert entries(cache) == []


def test_compiler_killed_for_want_of_memory(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_MODE", "killed")
    with pytest.raises(Problem, match="ran out of memory: a compiler was killed") as caught:
        resolve(str(tree))
    assert "container's limit" in caught.value.mend


def test_option_that_does_not_survive(
    tree: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_DROPPED", "CONFIG_IOMMUFD")
    with pytest.raises(Problem, match="did not accept 1 of") as caught:
        resolve(str(tree))
    assert "CONFIG_IOMMUFD=m: came out as n" in caught.value.detail
    assert "depends on IOMMU_SUPPORT and MMU" in caught.value.detail
    assert entries(cache) == []


def test_option_that_the_kernel_does_not_know(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_DROPPED", "CONFIG_IOMMUFD_TEST")
    with pytest.raises(Problem) as caught:
        resolve(str(tree))
    assert "CONFIG_IOMMUFD_TEST=y: this kernel has no such option" in caught.value.detail


def test_option_only_for_kernels_that_know_it(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_DROPPED", "CONFIG_IOMMU_PT_AMDV1")
    assert resolve(str(tree)).release
    (tree / "Kconfig").write_text("config IOMMU_PT_AMDV1\n\ttristate\n")
    with pytest.raises(Problem, match="did not accept"):
        resolve(str(tree))


@pytest.mark.parametrize(("tool", "package"), [("gcc", "gcc"), ("flex", "flex"), ("make", "make")])
def test_missing_tool(
    tree: Path, fakes: Path, monkeypatch: pytest.MonkeyPatch, tool: str, package: str
) -> None:
    (fakes / tool).unlink()
    monkeypatch.setattr("pytest_iommufd.host.tools._DEBIAN", Path("/"))
    with pytest.raises(Problem, match=f"missing on this machine: {tool}") as caught:
        resolve(str(tree))
    assert "apt-get install -y --no-install-recommends" in caught.value.mend
    assert package in caught.value.mend.split()


def test_full_before(cache: Path, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1_000_000})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(Problem, match="needed in the cache folder") as caught:
        resolve(str(tree))
    assert "0.5 GB" in caught.value.what
    assert str(cache) in caught.value.what
    assert "PYTEST_IOMMUFD_CACHE" in caught.value.mend
    assert entries(cache) == []


@pytest.mark.parametrize("spec", ["6.12", "tree"])
def test_full_half_way(cache: Path, tree: Path, monkeypatch: pytest.MonkeyPatch, spec: str) -> None:
    monkeypatch.setenv("FAKE_MODE", "full")
    with pytest.raises(Problem, match="no space left") as caught:
        resolve(str(tree) if spec == "tree" else spec)
    assert "PYTEST_IOMMUFD_CACHE" in caught.value.mend
    assert entries(cache) == []
    assert list(cache.glob("sources/*")) == []


def test_full_while_we_write_ourselves(
    cache: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pytest_iommufd.kernel.build.folder.shutil.copy2", copy)
    with pytest.raises(Problem, match="no space left"):
        resolve(str(tree))
    assert entries(cache) == []


@pytest.mark.parametrize("below", ["", "/deeper"])
def test_cache_that_cannot_be_written(
    cache: Path, tree: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    # A file in its place: permissions do not stop root.
    cache.write_text("a file")
    monkeypatch.setenv("PYTEST_IOMMUFD_CACHE", f"{cache}{below}")
    with pytest.raises(Problem, match="cannot write the cache folder") as caught:
        resolve(str(tree))
    assert "PYTEST_IOMMUFD_CACHE" in caught.value.mend


def test_description_by_older_code_is_made_again(
    tree: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = resolve(str(tree))
    made = len(calls("make"))
    assert kernel.uapi
    kernel.uapi.write_text("old")
    monkeypatch.setattr("pytest_iommufd.kernel.description.describer", lambda: "new code")
    assert ready(str(tree)) is None
    assert resolve(str(tree)) == kernel
    assert kernel.uapi.read_text() == "{}"
    assert ready(str(tree)) == kernel
    assert len(calls("make")) == made


def test_rebuild_needs_a_kernel_built_here(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="cannot be rebuilt"):
        rebuild_module(resolve("running"), lambda _: None, tmp_path / "out")


def _mirror() -> list[Mirror]:
    return [Mirror("http://mirror.example/debian", "bookworm", security=False, signed_by="/k")]
