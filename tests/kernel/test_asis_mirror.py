# SPDX-License-Identifier: GPL-2.0-only
"""Kernels that are given as the name of a package of this machine's Debian mirrors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from asis_files import add_config, add_image

from pytest_iommufd.errors import Problem
from pytest_iommufd.kernel import ready, resolve
from pytest_iommufd.kernel.asis import packages
from pytest_iommufd.kernel.source.mirrors import KEYRING, Mirror
from pytest_iommufd.kernel.spec import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    Calls = Callable[[str], list[str]]

NAME = "linux-image-7.3.4+deb13-amd64"
PARTS = ("linux-base-7.3.4+deb13-amd64", "linux-binary-7.3.4+deb13-amd64")
SPEC = f"debian:{NAME}"


@pytest.fixture(autouse=True)
def unpacked(
    fakes: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[Sequence[Path]]:
    """The packages that were to be unpacked; the fake ones have nothing in them."""
    del fakes, cache
    seen: list[Sequence[Path]] = []

    def unpack(files: Sequence[Path], *_: object) -> Path:
        seen.append(files)
        add_config(tmp_path / "boot/config-7.3.4")
        return add_image(tmp_path / "boot/vmlinuz-7.3.4", "7.3.4")

    monkeypatch.setattr(packages, "unpack", unpack)
    mirror = Mirror("http://deb.example.org/debian", "trixie", security=False, signed_by=KEYRING)
    monkeypatch.setattr("pytest_iommufd.kernel.source.packages.find_mirrors", lambda: [mirror])
    monkeypatch.setenv("FAKE_OFFERS", f"{NAME}=7.3.4-1 linux-image-7.3.4+deb13-rt-amd64=7.3.4-1")
    monkeypatch.setenv("FAKE_DEPENDS", f"{NAME}={PARTS[0]},{PARTS[1]}")
    return seen


def test_a_package_comes_with_those_of_its_kernel(
    cache: Path, calls: Calls, unpacked: list[Sequence[Path]]
) -> None:
    assert ready(SPEC) is None
    kernel = resolve(SPEC)
    assert (kernel.spec, kernel.name, kernel.release) == (SPEC, NAME, "7.3.4")
    assert [file.stem for file in unpacked[0]] == [*PARTS, NAME]
    assert unpacked[0][0].parent == cache / "downloads" / NAME
    asked = len(calls("apt-cache"))
    assert ready(SPEC) == resolve(SPEC) == kernel
    assert len(calls("apt-cache")) == asked, "what was downloaded is found without apt"


def test_the_private_lists_are_asked_as_well(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_PRIVATE_ONLY", "1")
    resolve(SPEC)
    assert sum("update" in call for call in calls("apt-get")) == 1


def test_a_name_that_no_mirror_has(cache: Path) -> None:
    with pytest.raises(Problem, match=r"no package linux-image-7\.3\.5") as caught:
        resolve("debian:linux-image-7.3.5+deb13-amd64")
    assert caught.value.expected == f"such as {NAME}, linux-image-7.3.4+deb13-rt-amd64"
    assert list((cache / "downloads").glob("*")) == []


def test_a_package_that_cannot_be_downloaded(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_MODE", "no-download")
    with pytest.raises(Problem, match=r"linux-image-7\.3\.4.* cannot be downloaded") as caught:
        resolve(SPEC)
    assert "404" in caught.value.detail
    assert list((cache / "downloads").iterdir()) == []


def test_lists_older_than_the_mirror(
    unpacked: list[Sequence[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_MODE", "stale")
    resolve(SPEC)
    assert len(unpacked[0]) == 1 + len(PARTS)


def test_a_machine_without_apt(fakes: Path) -> None:
    (fakes / "apt-get").unlink()
    with pytest.raises(Problem, match="which this machine does not have") as caught:
        resolve(SPEC)
    assert "give these" in caught.value.mend


@pytest.mark.parametrize("name", ["", "6.12", "bash", "linux-image-*", "linux-image-6.12 x", "-o"])
def test_what_is_no_name_of_a_package(name: str) -> None:
    with pytest.raises(Problem, match="not the name of a kernel's Debian package"):
        parse(f"debian:{name}")
