# SPDX-License-Identifier: GPL-2.0-only
"""The archive's bytes, read back by a parser written here, and by cpio where there is one."""

from __future__ import annotations

import shutil
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.agent.initramfs import Initramfs

if TYPE_CHECKING:
    from pathlib import Path

HEADER = 110


def sample() -> bytes:
    archive = Initramfs()
    archive.directory("dev")
    archive.device("dev/console", 5, 1)
    archive.file("init", b"#!x\n" * 3, 0o755)
    for size in range(5):  # each remainder of the padding
        archive.file(f"{'n' * (size + 1)}", bytes(range(size)))
    return bytes(archive)


def entries(archive: bytes) -> dict[str, tuple[int, bytes, tuple[int, int]]]:
    """Parse by the format's description: name -> mode, content, rdevice."""
    found = {}
    at = 0
    while True:
        assert at % 4 == 0
        assert archive[at : at + 6] == b"070701"
        numbers = [int(archive[at + 6 + 8 * i :][:8], 16) for i in range(13)]
        size, name_size = numbers[6], numbers[11]
        name_at = at + HEADER
        name = archive[name_at : name_at + name_size]
        assert name.endswith(b"\0")
        data_at = name_at + name_size + -(name_at + name_size) % 4
        at = data_at + size + -size % 4
        if name == b"TRAILER!!!\0":
            assert not archive[at:].strip(b"\0")
            return found
        found[name[:-1].decode()] = (
            numbers[1],
            archive[data_at : data_at + size],
            (numbers[9], numbers[10]),
        )


def test_what_was_put_in_is_there() -> None:
    found = entries(sample())
    assert list(found) == ["dev", "dev/console", "init", *("n" * n for n in range(1, 6))]
    assert found["dev"] == (stat.S_IFDIR | 0o755, b"", (0, 0))
    assert found["dev/console"] == (stat.S_IFCHR | 0o600, b"", (5, 1))
    assert found["init"] == (stat.S_IFREG | 0o755, b"#!x\n" * 3, (0, 0))
    assert found["nnnn"] == (stat.S_IFREG | 0o644, b"\0\1\2", (0, 0))


def test_it_is_of_whole_blocks_and_the_same_each_time() -> None:
    assert len(sample()) % 512 == 0
    assert sample() == sample()


def test_an_empty_archive_is_an_archive() -> None:
    assert entries(bytes(Initramfs())) == {}


@pytest.mark.skipif(not shutil.which("cpio"), reason="cpio is not on the PATH")
def test_cpio_reads_it(tmp_path: Path) -> None:
    listed = subprocess.run(
        ["cpio", "-t", "--quiet"], input=sample(), capture_output=True, check=True
    )
    assert listed.stdout.decode().split() == list(entries(sample()))
    assert listed.stderr == b""
    subprocess.run(
        ["cpio", "-i", "--quiet", "init", "n*"], input=sample(), check=True, cwd=tmp_path
    )
    init = tmp_path / "init"
    assert init.read_bytes() == b"#!x\n" * 3
    assert stat.S_IMODE(init.stat().st_mode) == 0o755
    assert (tmp_path / "nnnnn").read_bytes() == b"\0\1\2\3"
