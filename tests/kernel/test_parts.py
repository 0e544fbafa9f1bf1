# SPDX-License-Identifier: GPL-2.0-only
"""Tools, mirrors, fragments, progress, the command line."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from kernel_helpers import Recorder, entries
from rich.console import Console

from pytest_iommufd.commands.main import main
from pytest_iommufd.errors import Problem
from pytest_iommufd.host import tools
from pytest_iommufd.host.display import Plain, Rich
from pytest_iommufd.host.progress import duration
from pytest_iommufd.kernel import resolve
from pytest_iommufd.kernel.build import config
from pytest_iommufd.kernel.build.folder import relocate
from pytest_iommufd.kernel.cache.store import Estimate, Estimates
from pytest_iommufd.kernel.source.mirrors import KEYRING, Mirror, find_mirrors, private_sources

Calls = Callable[[str], list[str]]


@pytest.fixture
def debian(fakes: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tools, "_DEBIAN", Path("/"))
    monkeypatch.delenv(tools.NO_INSTALL)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    return fakes


def test_root_installs(debian: Path, calls: Calls, progress: Recorder) -> None:
    (debian / "flex").unlink()
    tools.ensure("make", "flex", progress=progress)
    assert any(
        call.endswith("install -y --no-install-recommends flex") for call in calls("apt-get")
    )
    assert progress.steps[-1] == "installing flex"


def test_root_may_forbid_it(debian: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    (debian / "flex").unlink()
    monkeypatch.setenv(tools.NO_INSTALL, "1")
    with pytest.raises(Problem) as caught:
        tools.ensure("flex")
    assert caught.value.mend.endswith("apt-get install -y --no-install-recommends flex")
    assert calls("apt-get") == []


def test_others_are_told(debian: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (debian / "gcc").unlink()
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(Problem, match="missing on this machine: gcc, qemu-system-x86_64") as caught:
        tools.ensure("gcc", "qemu-system-x86_64")
    assert "sudo apt-get install -y --no-install-recommends gcc" in caught.value.mend
    assert caught.value.mend.split()[-3:] == ["gcc", "qemu-system-x86", "libc6-dev"]


def test_elsewhere_than_debian(debian: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (debian / "flex").unlink()
    monkeypatch.setattr(tools, "_DEBIAN", Path("/nonexistent"))
    with pytest.raises(Problem, match="flex") as caught:
        tools.ensure("flex")
    assert "apt-get" not in caught.value.mend


def test_library_is_looked_for_by_compiling(debian: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tools.missing("libelf", "gcc") == []
    monkeypatch.setenv("FAKE_NO_LIBELF", "1")
    assert tools.missing("libelf", "gcc") == ["libelf"]
    assert tools.packages(["libelf"]) == ["libelf-dev"]
    (debian / "gcc").unlink()
    assert tools.missing("static libc") == ["static libc"]


@pytest.mark.parametrize(
    ("says", "why"),
    [
        ("patch: unrecognized option: version >&2; exit 1", "does not run: patch: unrecognized"),
        ("BSD patch 2.0", "is not GNU patch"),
    ],
)
def test_another_program_of_that_name_is_of_no_use(debian: Path, says: str, why: str) -> None:
    (debian / "patch").unlink(missing_ok=True)  # a bare machine has none
    (debian / "patch").write_text(f"#!/bin/sh\necho {says}\n")
    (debian / "patch").chmod(0o755)
    assert tools.missing("patch", "tar") == ["patch"]
    assert f"{debian / 'patch'} {why}" in tools.trouble("patch")


def test_qemu_goes_under_other_names(debian: Path) -> None:
    assert tools.find(tools.QEMU) is None
    (debian / "qemu-kvm").symlink_to(debian / "make")
    assert tools.find(tools.QEMU) == str(debian / "qemu-kvm")
    assert tools.missing(tools.QEMU) == []


def test_mirrors(tmp_path: Path) -> None:
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (tmp_path / "sources.list").write_text(
        "# deb http://old.example/debian bookworm main\n"
        "deb [arch=amd64 signed-by=/k.gpg] http://a.example/debian bookworm main contrib\n"
        "deb-src http://a.example/debian bookworm main\n"
    )
    (parts / "vendor.list").write_text("deb https://v.example/apt tool-bookworm main\n")
    (parts / "debian.sources").write_text(
        "Types: deb deb-src\n# a comment\nURIs: http://b.example/debian\n"
        "Suites: trixie trixie-updates\nComponents: main\n\n"
        "Types: deb\nURIs: http://s.example/debian-security\nSuites: trixie-security\n"
        "Components: main\nSigned-By: /s.gpg\n\n"
        "Enabled: no\nTypes: deb\nURIs: http://no.example/\nSuites: trixie\nComponents: main\n\n"
        "Types: deb\nURIs: http://n.example/\nSuites: nodistro\nComponents: main\n"
    )
    assert find_mirrors(tmp_path) == [
        Mirror("http://a.example/debian", "bookworm", security=False, signed_by="/k.gpg"),
        Mirror("http://b.example/debian", "trixie", security=False, signed_by=KEYRING),
        Mirror("http://s.example/debian-security", "trixie", security=True, signed_by="/s.gpg"),
    ]


def test_no_mirrors(tmp_path: Path) -> None:
    assert find_mirrors(tmp_path) == []
    assert not private_sources([], "pockets")


def test_private_sources() -> None:
    archive = Mirror("http://a.example/debian", "forky", security=False, signed_by="/k")
    security = Mirror("http://s.example/s", "forky", security=True, signed_by="/k")
    small = private_sources([archive, security], "pockets")
    for suite in ("forky-updates", "trixie-backports", "bookworm-security", "trixie-security"):
        assert f"Suites: {suite}\n" in small
    assert "Suites: trixie\n" not in small
    upstream = private_sources([archive, security], "upstream")
    for suite in ("forky", "bookworm-security", "trixie-backports", "sid"):
        assert f"Suites: {suite}\n" in upstream
    assert "Types: deb\n" not in upstream
    large = private_sources([archive, security], "releases")
    assert large.count("Types: deb\n") == 3
    assert "Signed-By: /k\n" in large
    assert "Architectures: amd64\n" in large


def test_fragment() -> None:
    text = (
        "# a comment\n\nCONFIG_A=y\nCONFIG_B=m  # a reason\nCONFIG_C=n # another\n"
        'CONFIG_D="x # y"  # if known: only some have it\n'
    )
    wanted = config.parse(text)
    assert [(o.symbol, o.value, o.optional) for o in wanted] == [
        ("CONFIG_A", "y", False),
        ("CONFIG_B", "m", False),
        ("CONFIG_C", "n", False),
        ("CONFIG_D", '"x # y"', True),
    ]
    rendered = config.render(wanted).splitlines()
    assert rendered[2:] == ["# CONFIG_C is not set", 'CONFIG_D="x # y"']


def test_own_fragments() -> None:
    wanted = config.options()
    symbols = [option.symbol for option in wanted]
    assert len(set(symbols)) == len(symbols), "each option once"
    assert {"CONFIG_IOMMUFD_TEST", "CONFIG_FAILSLAB", "CONFIG_VIRTIO_CONSOLE"} <= set(symbols)


def test_estimates(tmp_path: Path) -> None:
    known = Estimates(tmp_path / "new")
    assert known.get("build", Estimate(5)) == Estimate(5)
    known.put("build", Estimate(7.25, 9))
    assert Estimates(tmp_path / "new").get("build", Estimate(5)) == Estimate(7.2, 9)
    (tmp_path / "new/estimates.json").write_text("[broken")
    assert known.get("build", Estimate(5)) == Estimate(5)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (60, "1 min 00 s"), (185, "3 min 05 s")]
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_plain_progress() -> None:
    now = [0.0]
    stream = io.StringIO()
    progress = Plain(stream, clock=lambda: now[0])
    progress.step("building", 170)
    for second in range(1, 62):
        now[0] = second
        progress.update(f"CC file{second}.o", second / 170)
    progress.done()
    assert stream.getvalue().splitlines() == [
        "building (about 2 min 50 s)",
        "building, 30 s, 18%: CC file30.o",
        "building, 1 min 00 s, 35%: CC file60.o",
    ]


def test_rich_progress() -> None:
    stream = io.StringIO()
    progress = Rich(Console(file=stream, width=120, force_terminal=True))
    progress.update("nothing yet")
    progress.step("building", 170)
    progress.update("  CC [M]  main.o", 0.5)
    progress._display.refresh()
    shown = stream.getvalue()
    progress.step("next")
    progress.update("text")
    progress.done()
    assert "building" in shown
    assert "CC [M]  main.o" in shown
    assert "of about 2 min 50 s" in shown


def test_command_line(
    fakes: Path, cache: Path, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del fakes
    assert main(["kernel", "path", str(tree)]) == 2
    assert "kernel build" in capsys.readouterr().err
    assert main(["kernel", "list"]) == 0
    assert "no kernels" in capsys.readouterr().out
    assert main(["kernel", "build", str(tree), "6.12"]) == 0
    assert "linux-source-6.12 6.12.1-1 (Debian)" in capsys.readouterr().out
    assert main(["kernel", "list"]) == 0
    assert "6.12.1-fake" in capsys.readouterr().out
    assert main(["kernel", "path", "6.12"]) == 0
    assert Path(capsys.readouterr().out.strip()).name == "bzImage"
    assert main(["kernel", "clean", "6.12"]) == 0
    assert [name.partition("-")[0] for name in entries(cache)] == ["linux"]
    assert list((cache / "sources").iterdir()) == []


def test_clean_all_leaves_what_is_not_ours(fakes: Path, cache: Path, tree: Path) -> None:
    del fakes
    resolve(str(tree))
    mine = [cache / name for name in ("mine", "kernels/mine", "sources/mine", "apt/mine")]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    assert main(["kernel", "clean", "--all"]) == 0
    assert all(path.exists() for path in mine)
    assert {path.name for path in cache.iterdir()} == {"apt", "kernels", "locks", "mine", "sources"}
    assert entries(cache) == ["mine"]


@pytest.mark.parametrize("arguments", [[], ["6.12", "--all"]])
def test_clean_wants_to_know_what(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["kernel", "clean", *arguments])
    assert caught.value.code == 2


def test_problem_without_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kernel", "build", "nonsense"]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("pytest-iommufd: not a kernel spec: 'nonsense'\nexpected: ")
    assert "Traceback" not in errors


def test_copy_of_a_build_directory_is_built_in_where_it_is(tmp_path: Path) -> None:
    command = tmp_path / "new/tools/objtool/.weak.o.cmd"
    command.parent.mkdir(parents=True)
    command.write_text(
        "gcc -I/src/include -I/src-x -o /cache/x.partial/build/tools/weak.o weak.c\n"
    )
    os.utime(command, (1, 2))
    moved = {Path("/cache/x.partial/build"): tmp_path / "new", Path("/src"): tmp_path / "s"}
    relocate(tmp_path / "new", moved)
    assert command.read_text() == (
        f"gcc -I{tmp_path}/s/include -I/src-x -o {tmp_path}/new/tools/weak.o weak.c\n"
    )
    assert command.stat().st_mtime == 2
