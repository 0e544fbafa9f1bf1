# SPDX-License-Identifier: GPL-2.0-only
"""How the agent is compiled, kept and told apart."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

import pytest

from pytest_iommufd import Problem
from pytest_iommufd.agent import build
from pytest_iommufd.uapi import Uapi

EMPTY_LAYOUT = (
    '#include "agent.h"\nstatic const struct layout_entry layout[] = { { "none", 0 } };\n'
)


def compiler(folder: Path, body: str) -> str:
    """A compiler that writes down its arguments."""
    script = folder / "compiler"
    script.write_text(f'#!/bin/sh\necho "$@" >> {folder}/calls\n{body}\n')
    script.chmod(0o755)
    return str(script)


PT_INTERP = 3  # the segment that names the dynamic linker; a static program has none


def segments(elf: bytes) -> list[int]:
    """The types of the segments of a 64-bit ELF file."""
    (at,) = struct.unpack_from("<Q", elf, 32)
    size, number = struct.unpack_from("<HH", elf, 54)
    return [struct.unpack_from("<I", elf, at + size * i)[0] for i in range(number)]


WRITES_OUTPUT = 'while [ "$1" != -o ]; do shift; done; echo program > "$2"'


def test_a_newer_compiler_s_warning_ends_no_run(tmp_path: Path) -> None:
    warned = f"{EMPTY_LAYOUT}static int unused;\n"
    command = compiler(tmp_path, f'exec gcc -Wall -Wextra "$@" 2>{tmp_path}/warnings')
    assert build.compiled(warned, tmp_path, compiler=command).exists()
    assert "unused" in (tmp_path / "warnings").read_text()


def test_the_program_is_static_and_of_all_sources(tmp_path: Path) -> None:
    build.compiled(EMPTY_LAYOUT, tmp_path, compiler=compiler(tmp_path, WRITES_OUTPUT))
    arguments = (tmp_path / "calls").read_text().split()
    assert "-static" in arguments
    assert [Path(name).name for name in arguments if name.endswith(".c")] == [
        *build.SOURCES,
        "layout.c",
    ]


def test_it_is_compiled_once_for_each_layout_compiler_and_flags(tmp_path: Path) -> None:
    command = compiler(tmp_path, WRITES_OUTPUT)
    first = build.compiled(EMPTY_LAYOUT, tmp_path, compiler=command)
    assert build.compiled(EMPTY_LAYOUT, tmp_path, compiler=command) == first
    assert len((tmp_path / "calls").read_text().splitlines()) == 1
    others = {
        build.compiled(EMPTY_LAYOUT + "\n", tmp_path, compiler=command),
        build.compiled(EMPTY_LAYOUT, tmp_path, compiler=command, flags=("-O1",)),
    }
    assert len(others | {first}) == 3
    assert len({build.build_id(program) for program in others | {first}}) == 3


def test_without_a_compiler_the_package_to_install_is_named(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="no C compiler: no-such-cc") as caught:
        build.compiled(EMPTY_LAYOUT, tmp_path, compiler="no-such-cc")
    assert "apt-get install" in str(caught.value)


def test_what_the_compiler_says_is_shown_and_nothing_is_kept(tmp_path: Path) -> None:
    command = compiler(tmp_path, "echo 'agent.c:1: error: no' >&2; exit 1")
    with pytest.raises(Problem, match=r"agent\.c:1: error: no"):
        build.compiled(EMPTY_LAYOUT, tmp_path, compiler=command)
    assert list((tmp_path / "agents").iterdir()) == []


def test_a_cache_that_is_no_folder_is_a_problem(tmp_path: Path) -> None:
    cache = tmp_path / "file"
    cache.write_text("")
    with pytest.raises(Problem, match="PYTEST_IOMMUFD_CACHE"):
        build.compiled(EMPTY_LAYOUT, cache, compiler=compiler(tmp_path, WRITES_OUTPUT))


@pytest.mark.parametrize("uapi", Uapi.shipped(), ids=lambda uapi: uapi.kernel)
def test_it_compiles_for_each_shipped_description(uapi: Uapi, cache_root: Path) -> None:
    program = build.compiled(uapi.layout_source(), cache_root)
    assert os.access(program, os.X_OK)
    assert PT_INTERP not in segments(program.read_bytes())


def test_it_says_how_it_is_used(agent_program: Path) -> None:
    done = subprocess.run([agent_program], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage: agent --stdio" in done.stderr
