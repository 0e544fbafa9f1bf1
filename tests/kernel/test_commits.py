# SPDX-License-Identifier: GPL-2.0-only
"""A commit of a git checkout as a kernel: what it is called, exported and built from."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from kernel_helpers import AMD, HWPT, Recorder, add_sources, entries, make_diff, make_series

from pytest_iommufd.commands.main import main
from pytest_iommufd.errors import Problem
from pytest_iommufd.kernel import Kernel, ready, resolve
from pytest_iommufd.kernel.spec import parse
from pytest_iommufd.kernel.workspace import tree_of

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(not shutil.which("git"), reason="git is not on this machine")


@dataclass(frozen=True)
class Checkout:
    """A git checkout of a fake kernel."""

    path: Path

    def git(self, *argv: str) -> str:
        config = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        words = ["git", "-C", self.path, *config, *argv]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, name: str = "", text: str = "") -> str:
        """Commit what there is, with a file written before if it is named; tells the hash."""
        if name:
            (self.path / name).parent.mkdir(exist_ok=True)
            (self.path / name).write_text(text)
        self.git("add", "--all")
        self.git("commit", "-m", "x", "--allow-empty")
        return self.git("rev-parse", "HEAD")

    def at(self, revision: str) -> str:
        return f"{self.path}@{revision}"


@pytest.fixture(autouse=True)
def _machine(fakes: Path, cache: Path) -> None:
    del fakes, cache


@pytest.fixture
def checkout(tree: Path) -> Checkout:
    """Two commits: v6.17, and v6.18 with other drivers/iommu/iommufd/hwpt.c."""
    made = Checkout(tree)
    add_sources(tree)
    made.git("init", "--initial-branch=main")
    made.commit("lib/old.c", "int old;\n")
    made.git("tag", "v6.17")
    made.commit(HWPT, "int new;\n")
    made.git("tag", "-a", "-m", "x", "v6.18")
    return made


def everything(folder: Path) -> dict[str, tuple[str, int, int]]:
    return {
        str(path): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
            path.lstat().st_mode,
            path.lstat().st_mtime_ns,
        )
        for path in folder.rglob("*")
    }


def source(kernel: Kernel, name: str) -> str:
    assert kernel.tree
    return (kernel.tree / name).read_text()


def compiled(kernel: Kernel) -> list[str]:
    assert kernel.log
    lines = (line.split() for line in kernel.log.read_text().splitlines())
    return [words[1] for words in lines if words[:1] == ["CC"] and words[1] != "init/main.o"]


def objects(kernel: Kernel) -> dict[str, str]:
    """What was compiled, by object: the fake compiler copies the source."""
    assert kernel.build
    found = (path for path in kernel.build.rglob("*.o"))
    return {str(path.relative_to(kernel.build)): path.read_text() for path in found}


ALL = ["drivers/iommu/amd/amd.o", "drivers/iommu/iommufd/hwpt.o", "lib/old.o"]


def test_exported_and_built(checkout: Checkout, cache: Path) -> None:
    commit = checkout.git("rev-parse", "v6.18^{commit}")
    kernel = resolve(checkout.at("v6.18"))
    assert kernel.name == "linux@v6.18"
    assert kernel.source == f"commit {commit[:12]} (v6.18) of {checkout.path}"
    assert kernel.tree == cache / f"sources/commit_{commit}"
    assert source(kernel, HWPT) == "int new;\n"
    assert {path.name for path in kernel.tree.iterdir()} == {
        "Kconfig",
        "Makefile",
        "drivers",
        "lib",
    }
    assert ready(checkout.at("v6.18")) == resolve(checkout.at("v6.18"), update=True) == kernel


def test_worktree_in_any_state(checkout: Checkout) -> None:
    for name in (".config", "include/config/auto.conf", "drivers/dirty.c"):
        (checkout.path / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout.path / name).touch()
    (checkout.path / HWPT).write_text("an edit\n")
    (checkout.path / AMD).unlink()
    kernel = resolve(checkout.at("HEAD"))
    assert kernel.tree
    assert source(kernel, HWPT) == "int new;\n"
    assert (kernel.tree / AMD).is_file()
    assert not (kernel.tree / "drivers/dirty.c").exists()
    assert not (kernel.tree / ".config").exists()


def test_checkout_is_not_written_to(checkout: Checkout, tmp_path: Path) -> None:
    hook = checkout.path / ".git/hooks/post-index-change"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\n: > {tmp_path}/hook-ran\n")
    hook.chmod(0o755)
    (checkout.path / ".git/info").mkdir(exist_ok=True)
    (checkout.path / ".git/info/sparse-checkout").write_text("/Makefile\n")
    for setting in ("core.splitIndex", "core.sparseCheckout", "core.autocrlf"):
        checkout.git("config", setting, "true")
    checkout.git("config", "core.fsmonitor", str(hook))
    (checkout.path / HWPT).write_text("an edit\n")
    os.utime(checkout.path / AMD)  # git would refresh its index
    before = everything(checkout.path)
    kernels = [resolve(checkout.at(revision)) for revision in ("v6.17", "v6.18")]
    assert everything(checkout.path) == before
    assert not (tmp_path / "hook-ran").exists()
    assert kernels[1].tree
    assert (kernels[1].tree / HWPT).read_bytes() == b"int new;\n", "no CR, and nothing left out"


def test_bare_repository(checkout: Checkout, tmp_path: Path) -> None:
    checkout.git("clone", "--bare", ".", str(tmp_path / "my linux.git"))
    kernel = resolve(f"{tmp_path}/my linux.git@v6.17")
    assert kernel.name == "my_linux@v6.17"
    assert source(kernel, "lib/old.c") == "int old;\n"


def test_worktree_of_another_checkout(checkout: Checkout, tmp_path: Path) -> None:
    checkout.git("worktree", "add", str(tmp_path / "other"), "v6.17")
    assert source(resolve(f"{tmp_path}/other@v6.18"), HWPT) == "int new;\n"


def test_names(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    new, old = (checkout.git("rev-parse", f"{tag}^{{commit}}") for tag in ("v6.18", "v6.17"))
    for branch in ("next/iommu", "with+plus", "who@here", "v6.18+fix"):
        checkout.git("branch", branch, "v6.17")
    for revision, name, commit in (
        ("v6.18", "v6.18", new),
        ("HEAD", "HEAD", new),
        ("@", "_", new),
        ("v6.18~1", "v6.18_1", old),
        ("HEAD@{0}", "HEAD__0_", new),
        (new, new[:12], new),
        (new[:7].upper(), new[:12], new),
        ("next/iommu", "next_iommu", old),
        ("with+plus", "with+plus", old),
        ("v6.18+fix", "v6.18+fix", old),
        ("who@here", "who_here", old),
    ):
        spec = parse(checkout.at(revision))
        assert (spec.kind, spec.commit, spec.series) == ("commit", commit, ())
        assert spec.name == f"linux@{name}"
    monkeypatch.chdir(checkout.path.parent)
    assert parse("linux@v6.18").commit == new
    monkeypatch.chdir(checkout.path)
    assert parse(".@v6.18").name == "linux@v6.18"


@pytest.mark.parametrize("name", ["linux@v6.18", "linux+v6.18"])
def test_a_path_that_exists_is_a_path(checkout: Checkout, name: str) -> None:
    other = checkout.path.with_name(name)
    shutil.copytree(checkout.path, other)
    spec = parse(str(other))
    assert (spec.kind, spec.path) == ("tree", other)
    spec = parse(f"{other}@v6.17")
    assert (spec.kind, spec.path) == ("commit", other)


@pytest.mark.skipif(not shutil.which("patch"), reason="patch is not on this machine")
def test_series(checkout: Checkout, tmp_path: Path) -> None:
    checkout.git("branch", "with+plus", "v6.17")
    series = make_series(tmp_path / "v2", make_diff(AMD))
    for revision in ("v6.17", "with+plus"):
        kernel = resolve(f"{checkout.at(revision)}+{series}")
        assert kernel.name == f"linux@{revision}+v2"
        assert kernel.source.endswith(f"(v6.17) of {checkout.path} + v2 (1 patch)")
        assert "new\n" in source(kernel, AMD)
        assert compiled(kernel) == ["drivers/iommu/amd/amd.o"]
        plain = ready(checkout.at(revision))
        assert plain
        assert plain.tree
        assert kernel.tree
        assert "new\n" not in source(plain, AMD)
        assert (kernel.tree / HWPT).samefile(plain.tree / HWPT)
    assert "new\n" not in source(resolve(checkout.at("v6.18")), AMD), "made of an unpatched one"
    with pytest.raises(Problem, match="not a patch series: 'none'"):
        parse(f"{checkout.at('v6.17')}+none")


@pytest.mark.skipif(not shutil.which("patch"), reason="patch is not on this machine")
def test_commits_as_a_series(checkout: Checkout) -> None:
    here, both = checkout.at("v6.17"), "v6.17..v6.18"
    for text in (f"{here}+{both}", f"{here}+{checkout.path}@{both}"):
        spec = parse(text)
        assert (spec.name, spec.base) == (f"linux@v6.17+{both}", parse(here))
        assert source(resolve(text), HWPT) == "int new;\n"
    spec = parse(f"{checkout.path}+{checkout.path}@{both}")
    assert (spec.kind, spec.name) == ("tree", f"linux+{both}")


def test_only_what_differs_is_exported_and_compiled(checkout: Checkout, progress: Recorder) -> None:
    first = resolve(checkout.at("v6.17"))
    assert compiled(first) == ALL
    assert first.tree
    before = everything(first.tree)
    second = resolve(checkout.at("v6.18"), progress=progress)
    assert "copying the last build of linux@v6.17" in progress.steps
    assert f"exporting 1 files that differ from {first.tree.name[7:19]}" in progress.steps
    assert compiled(second) == ["drivers/iommu/iommufd/hwpt.o"]
    assert objects(second)["drivers/iommu/iommufd/hwpt.o"] == "int new;\n"
    assert second.tree
    assert (second.tree / AMD).samefile(first.tree / AMD)
    assert not (second.tree / HWPT).samefile(first.tree / HWPT)
    assert everything(first.tree) == before


def test_files_that_come_go_and_change_their_kind(checkout: Checkout) -> None:
    tree = checkout.path
    (tree / "lib/link").symlink_to("old.c")
    (tree / "lib/same").symlink_to(".././lib/run.sh")
    (tree / "lib/kind").write_text("a file\n")
    (tree / "lib/other").mkdir()
    (tree / "lib/other/x").write_text("in a folder\n")
    (tree / "lib/run.sh").write_text("#!/bin/sh\n")
    (tree / "lib/only").mkdir()
    (tree / "lib/only/a").write_text("a\n")
    checkout.commit()
    resolve(checkout.at("HEAD"))
    shutil.rmtree(tree / "lib/only")
    shutil.rmtree(tree / "lib/other")
    (tree / "lib/link").unlink()
    (tree / "lib/link").symlink_to("run.sh")
    (tree / "lib/kind").unlink()
    (tree / "lib/kind").mkdir()
    (tree / "lib/kind/x").write_text("a folder now\n")
    (tree / "lib/other").write_text("a file now\n")
    (tree / "lib/run.sh").chmod(0o755)
    (tree / "lib/old.c").unlink()
    checkout.commit("lib/é.c", "int fresh;\n")
    kernel = resolve(checkout.at("HEAD"))
    assert kernel.tree
    exported = kernel.tree / "lib"
    listed = {path.relative_to(exported).as_posix() for path in exported.rglob("*")}
    assert listed == {"link", "kind", "kind/x", "other", "run.sh", "same", "é.c"}
    written = os.readlink(exported / "same")  # noqa: PTH115 - Path would drop the "./"
    assert written == ".././lib/run.sh"
    assert str((exported / "link").readlink()) == "run.sh"
    assert (exported / "other").read_text() == "a file now\n"
    assert os.access(exported / "run.sh", os.X_OK)


def test_going_back_builds_what_it_says(checkout: Checkout, cache: Path) -> None:
    resolve(checkout.at("v6.17"))
    resolve(checkout.at("v6.18"))
    [old] = [name for name in entries(cache) if "v6.17" in name]
    shutil.rmtree(cache / "kernels" / old)
    # Its source is still there, with files older than the build of v6.18.
    kernel = resolve(checkout.at("v6.17"))
    assert "line 1\n" in objects(kernel)["drivers/iommu/iommufd/hwpt.o"]
    assert compiled(kernel) == ALL


def test_same_commit_under_another_name(checkout: Checkout) -> None:
    first = resolve(checkout.at("v6.18"))
    second = resolve(checkout.at("main"))
    assert (first.name, second.name) == ("linux@v6.18", "linux@main")
    assert first.tree == second.tree
    assert compiled(second) == []


def test_last_commit_is_gone(checkout: Checkout, cache: Path) -> None:
    gone = checkout.commit("lib/old.c", "int gone;\n")
    resolve(checkout.at(gone))
    checkout.git("reset", "--hard", "v6.17")
    for words in ("reflog expire --expire=now --all", "gc --prune=now"):
        checkout.git(*words.split())
    assert compiled(resolve(checkout.at("v6.17"))) == ALL
    shutil.rmtree(cache / "sources")
    assert compiled(resolve(checkout.at("v6.18"))) == ALL, "nor is its source there"


def test_branch_that_moves(checkout: Checkout, cache: Path, tmp_path: Path) -> None:
    first = checkout.git("rev-parse", "main")
    checkout.git("clone", ".", str(tmp_path / "elsewhere/linux"))
    resolve(f"{tmp_path}/elsewhere/linux@main")
    for number in range(5):
        commit = checkout.commit("lib/old.c", f"int x{number};\n")
        kernel = resolve(checkout.at("main"))
        assert source(kernel, "lib/old.c") == f"int x{number};\n"
        assert kernel.tree
        assert kernel.tree.name == f"commit_{commit}"
    assert ready(f"{tmp_path}/elsewhere/linux@main"), "another checkout of that name"
    assert len(entries(cache)) == 3 + 1
    kept = {first, *(checkout.git("rev-parse", f"main~{back}") for back in range(3))}
    assert {path.name for path in (cache / "sources").iterdir()} == {f"commit_{c}" for c in kept}


@pytest.mark.parametrize(
    ("revision", "what", "mend"),
    [
        ("6.18", "no such revision of {path}: '6.18'; did you mean v6.18", "fetch --tags"),
        ("zzz+none", "no such revision of {path}: 'zzz'", "git -C {path} fetch --tags, if"),
        ("", "no such revision of {path}: ''", ""),
        ("--all", "no such revision of {path}: '--all'", ""),
        ("--since=yesterday", "no such revision of {path}: '--since=yesterday'", ""),
        ("HEAD~9", "no such revision of {path}: 'HEAD~9'", ""),
        ("v6.18:lib", "no such revision of {path}: 'v6.18:lib'", ""),
        ("v6.17..v6.18", "no such revision", "a range of commits is a series: {path}+v6.17..v6.18"),
        ("0" * 40, "no such revision", "fetch --tags, if its origin has it"),
    ],
)
def test_no_such_revision(checkout: Checkout, revision: str, what: str, mend: str) -> None:
    with pytest.raises(Problem) as caught:
        parse(checkout.at(revision))
    assert what.format(path=checkout.path) in caught.value.what
    assert mend.format(path=checkout.path) in caught.value.mend
    assert caught.value.expected


def test_shallow_clone(checkout: Checkout, tmp_path: Path) -> None:
    checkout.git("clone", "--depth=1", f"file://{checkout.path}", str(tmp_path / "shallow"))
    clone = Checkout(tmp_path / "shallow")
    assert parse(clone.at("HEAD")).kind == "commit"
    with pytest.raises(Problem, match="the clone is shallow") as caught:
        parse(clone.at("HEAD~1"))
    assert f"git -C {clone.path} fetch --tags --unshallow" in caught.value.mend


@pytest.mark.parametrize("where", ["tree", "file", "folder"])
def test_no_checkout(tmp_path: Path, where: str) -> None:
    path = tmp_path / "x"
    if where == "file":
        path.write_bytes(b"\0" * 0x202 + b"HdrS")
    else:
        path.mkdir()
    if where == "tree":
        (path / "Kconfig").touch()
        (path / "Makefile").touch()
    with pytest.raises(Problem, match=f"not a git checkout: {path}") as caught:
        parse(f"{path}@v6.18")
    assert "TREE@REV" in caught.value.expected


def test_folder_of_a_checkout(checkout: Checkout) -> None:
    with pytest.raises(Problem, match=r"not the top folder of a git checkout.*drivers/") as caught:
        parse(f"{checkout.path}/drivers@v6.18")
    assert "top folder" in caught.value.mend


def test_commit_without_a_kernel(checkout: Checkout) -> None:
    checkout.git("rm", "Kconfig")
    checkout.commit()
    with pytest.raises(Problem, match=r"not a Linux source tree: HEAD of .* has no Kconfig\n"):
        parse(checkout.at("HEAD"))


def test_no_git(checkout: Checkout, fakes: Path) -> None:
    (fakes / "git").unlink()
    with pytest.raises(Problem, match="git is not on this machine") as caught:
        parse(checkout.at("v6.18"))
    assert caught.value.mend == "install git"


def test_git_that_refuses_another_user_s_checkout(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(Problem, match="git refuses to read") as caught:
        parse(checkout.at("v6.18"))
    assert caught.value.mend == f"git config --global --add safe.directory {checkout.path}"


def sources(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "sources").glob("*"))


def test_missing_object_leaves_nothing_half_made(checkout: Checkout, cache: Path) -> None:
    blob = checkout.git("rev-parse", f"v6.18:{HWPT}")
    (checkout.path / f".git/objects/{blob[:2]}/{blob[2:]}").unlink()
    for before in ([], ["v6.17"]):
        for revision in before:
            resolve(checkout.at(revision))
        kept = sources(cache)
        with pytest.raises(Problem, match="git cannot export the commit") as caught:
            resolve(checkout.at("v6.18"))
        assert blob in caught.value.detail
        assert f"git -C {checkout.path} fsck" in caught.value.mend
        assert sources(cache) == kept
        assert len(kept) == len(before)


def test_what_a_killed_run_left_is_no_source(checkout: Checkout, cache: Path) -> None:
    for revision in ("v6.17", "v6.18"):
        commit = checkout.git("rev-parse", f"{revision}^{{commit}}")
        (cache / f"sources/commit_{commit}.partial/lib").mkdir(parents=True)
        (cache / f"sources/commit_{commit}.partial/lib/half.c").touch()
    kernel = resolve(checkout.at("v6.18"))
    assert sources(cache) == [f"commit_{commit}"]
    assert compiled(kernel) == ALL


@pytest.mark.parametrize(
    "says", ["error: unable to write file x", "fatal: cannot mkdir x: No space left on device"]
)
def test_full_while_exporting(checkout: Checkout, fakes: Path, cache: Path, says: str) -> None:
    real = (fakes / "git").readlink()
    (fakes / "git").unlink()
    (fakes / "git").write_text(
        f'#!/bin/sh\ncase "$*" in *checkout-index*) echo "{says}"; exit 128;; esac\n'
        f'exec {real} "$@"\n'
    )
    (fakes / "git").chmod(0o755)
    with pytest.raises(Problem, match="no space left in the cache folder"):
        resolve(checkout.at("v6.18"))
    assert sources(cache) == []


def test_no_room_to_export(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1_000_000_000})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(Problem, match=r"2\.0 GB are needed"):
        resolve(checkout.at("v6.18"))


def test_only_a_tree_is_watched(checkout: Checkout) -> None:
    with pytest.raises(Problem, match="not a source tree"):
        tree_of(parse(checkout.at("v6.18")))


def test_list_and_clean(
    checkout: Checkout, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for revision in ("v6.17", "v6.18", "main"):
        assert main(["kernel", "build", checkout.at(revision)]) == 0
    resolve("6.12")
    capsys.readouterr()
    assert main(["kernel", "list"]) == 0
    out = capsys.readouterr().out
    assert "linux@v6.17\t6.12.1-fake\t" in out
    assert f"(v6.17) of {checkout.path}\n" in out
    assert main(["kernel", "clean", checkout.at("v6.18")]) == 0
    assert len(sources(cache)) == 3, "linux@main still needs it"
    assert main(["kernel", "clean", checkout.at("main")]) == 0
    assert len(sources(cache)) == 2
    shutil.rmtree(checkout.path)
    assert main(["kernel", "clean", "linux@v6.17"]) == 0
    assert sources(cache) == ["linux-source-6.12_6.12.1-1"]
    assert [name.partition("-")[0] for name in entries(cache)] == ["6.12"]


def test_clean_removes_the_source_of_a_kernel_that_does_not_build(
    checkout: Checkout, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_MODE", "fail")
    with pytest.raises(Problem, match="does not build"):
        resolve(checkout.at("v6.18"))
    assert len(sources(cache)) == 1
    assert main(["kernel", "clean", checkout.at("v6.18")]) == 0
    assert sources(cache) == []


def test_clean_of_a_patched_kernel_leaves_the_source(
    checkout: Checkout, cache: Path, tmp_path: Path
) -> None:
    series = make_series(tmp_path / "v2", make_diff(AMD))
    resolve(f"{checkout.at('v6.18')}+{series}")
    assert main(["kernel", "clean", f"{checkout.at('v6.18')}+{series}"]) == 0
    assert len(sources(cache)) == len(entries(cache)) == 1
    with contextlib.suppress(Problem):
        resolve(checkout.at("v6.18"))
    assert ready(checkout.at("v6.18"))
