# SPDX-License-Identifier: GPL-2.0-only
"""KVM is used when a try shows that it works, and the answer is remembered."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.host import tools
from pytest_iommufd.machine import accel
from pytest_iommufd.machine.accel import choose

if TYPE_CHECKING:
    from collections.abc import Callable

    Fake = Callable[[str], Path]

WORKS = 'echo "[    0.0] Linux version 6.12" > "$console"; sleep 600'
ABORTS = "echo 'ioctl(KVM_CREATE_VM) failed: 16' >&2; echo 'Aborted' >&2; kill -ABRT $$"
REFUSES = "echo 'failed to initialize kvm: Permission denied' >&2; exit 1"
HANGS = "exec sleep 600"
IMAGE = Path("bzImage")

# what finds the console's file among QEMU's arguments
SCRIPT = """\
#!/bin/sh
echo "$@" >> {calls}
for word; do case "$word" in *path=*/console) console=${{word#*path=}};; esac; done
{body}
"""


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in the place of /dev/kvm."""
    path = tmp_path / "kvm"
    path.write_text("")
    monkeypatch.setattr(accel, "DEVICE", path)
    monkeypatch.setattr(accel, "_PROBE_SECONDS", 1.0)
    return path


@pytest.fixture
def fake_qemu(tmp_path: Path, device: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Puts a shell script on the PATH as QEMU; returns the file of its calls."""
    assert device.exists()
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def make(body: str) -> Path:
        calls = tmp_path / "calls"
        script = folder / tools.QEMU
        script.write_text(SCRIPT.format(calls=calls, body=body))
        script.chmod(0o755)
        return calls

    return make


def test_a_kernel_that_prints_shows_that_kvm_works(fake_qemu: Fake, tmp_path: Path) -> None:
    calls = fake_qemu(WORKS)
    chosen = choose(IMAGE, tmp_path / "cache")
    assert (chosen.name, chosen.reason, str(chosen)) == ("kvm", "", "kvm")
    assert "-accel kvm" in calls.read_text()
    assert "-kernel bzImage" in calls.read_text()


@pytest.mark.parametrize(
    ("body", "reasons"),
    [
        (ABORTS, ("QEMU was killed by SIGABRT", "Aborted")),
        (REFUSES, ("QEMU exited with status 1", "initialize kvm: Permission denied")),
        ("exit 0", ("QEMU exited with status 0",)),
        (HANGS, ("a guest hangs",)),
        ('echo "SeaBIOS" > "$console"; ' + HANGS, ("a guest hangs",)),
    ],
    ids=["aborts", "refuses", "exits", "hangs", "hangs in firmware"],
)
def test_kvm_that_does_not_work_is_not_used(
    fake_qemu: Fake, device: Path, tmp_path: Path, body: str, reasons: tuple[str, ...]
) -> None:
    fake_qemu(body)
    began = time.monotonic()
    chosen = choose(IMAGE, tmp_path / "cache")
    assert time.monotonic() - began < 5
    assert chosen.name == "tcg"
    assert chosen.reason.startswith(f"{device} does not work: {reasons[0]}")
    assert all(reason in chosen.reason for reason in reasons)
    assert str(chosen) == f"tcg ({chosen.reason})"


@pytest.mark.parametrize("body", [WORKS, REFUSES], ids=["works", "does not work"])
def test_the_answer_is_remembered(fake_qemu: Fake, tmp_path: Path, body: str) -> None:
    calls = fake_qemu(body)
    first = choose(IMAGE, tmp_path / "cache")
    assert choose(IMAGE, tmp_path / "cache") == first
    assert len(calls.read_text().splitlines()) == 1


def test_the_answer_is_forgotten_when_the_machine_was_started_again(
    fake_qemu: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = fake_qemu(REFUSES)
    choose(IMAGE, tmp_path / "cache")
    monkeypatch.setattr(accel, "_situation", lambda: "another boot")
    fake_qemu(WORKS)
    assert choose(IMAGE, tmp_path / "cache").name == "kvm"
    assert len(calls.read_text().splitlines()) == 2


@pytest.mark.parametrize("content", ["", "{", "[]", '{"key": 3}', "\0"])
def test_a_memory_that_makes_no_sense_is_none(
    fake_qemu: Fake, tmp_path: Path, content: str
) -> None:
    calls = fake_qemu(WORKS)
    (tmp_path / "kvm.json").write_text(content)
    assert choose(IMAGE, tmp_path).name == "kvm"
    assert calls.exists()
    assert json.loads((tmp_path / "kvm.json").read_text())["reason"] == ""


def test_a_cache_that_cannot_be_written_only_costs_time(fake_qemu: Fake, tmp_path: Path) -> None:
    calls = fake_qemu(WORKS)
    cache = tmp_path / "cache"
    cache.write_text("no folder")
    assert choose(IMAGE, cache).name == choose(IMAGE, cache).name == "kvm"
    assert len(calls.read_text().splitlines()) == 2


def test_without_the_device_nothing_is_tried(fake_qemu: Fake, device: Path, tmp_path: Path) -> None:
    calls = fake_qemu(WORKS)
    device.unlink()
    assert str(choose(IMAGE, tmp_path)) == f"tcg ({device} does not exist)"
    assert not calls.exists()


def test_a_device_that_is_forbidden_is_not_tried(
    fake_qemu: Fake, device: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = fake_qemu(WORKS)
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert str(choose(IMAGE, tmp_path)) == f"tcg ({device} may not be opened by this user)"
    assert not calls.exists()


def test_what_was_asked_for_is_taken_untried(fake_qemu: Fake, tmp_path: Path) -> None:
    calls = fake_qemu(ABORTS)
    assert str(choose(IMAGE, tmp_path, "kvm")) == "kvm"
    assert str(choose(IMAGE, tmp_path, "tcg")) == "tcg (asked for)"
    assert not calls.exists()


def test_no_try_leaves_a_process(
    fake_qemu: Fake, tmp_path: Path, gone: Callable[..., bool]
) -> None:
    note = tmp_path / "pid"
    fake_qemu(f"echo $$ > {note}; {WORKS}")
    choose(IMAGE, tmp_path)
    assert gone(int(note.read_text()))
