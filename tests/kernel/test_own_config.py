# SPDX-License-Identifier: GPL-2.0-only
"""A configuration of the user's: fragments over ours, or a whole .config below ours."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from kernel_helpers import HWPT, Recorder, add_sources, entries, make_diff, make_series

from pytest_iommufd.commands.main import main
from pytest_iommufd.errors import Problem
from pytest_iommufd.kernel import ready, resolve
from pytest_iommufd.kernel.build import config
from pytest_iommufd.kernel.build.own import read
from pytest_iommufd.kernel.cache.store import Cache
from pytest_iommufd.kernel.spec import parse
from pytest_iommufd.kernel.workspace import open_workspace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_iommufd.kernel import Kernel

HEAD = (
    "#\n# Automatically generated file; DO NOT EDIT.\n# Linux/x86 6.12.1 Kernel Configuration\n#\n"
)


@pytest.fixture(autouse=True)
def _machine(fakes: Path, cache: Path) -> None:
    del fakes, cache


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., Path]:
    """Makes a file of lines."""

    def make(*lines: str, name: str = "my.config", head: str = "") -> Path:
        (tmp_path / name).write_text(head + "".join(f"{line}\n" for line in lines))
        return tmp_path / name

    return make


def configured(kernel: Kernel | None) -> dict[str, str]:
    assert kernel
    assert kernel.build
    return config.values((kernel.build / ".config").read_text())


def test_fragments_are_over_ours_and_the_last_wins(
    tree: Path, file: Callable[..., Path], calls: Callable[[str], list[str]]
) -> None:
    plain = resolve(str(tree))
    first = file("CONFIG_KASAN=y", "# CONFIG_USERFAULTFD is not set", "CONFIG_NR_CPUS=4")
    second = file("", "CONFIG_NR_CPUS=8  # enough", "CONFIG_HZ_1000=y", name="2.config")
    kernel = resolve(str(tree), configs=[first, second])
    got = configured(kernel)
    assert (got["CONFIG_KASAN"], got["CONFIG_NR_CPUS"]) == ("y", "8")
    assert "CONFIG_USERFAULTFD" not in got
    assert got["CONFIG_VIRTIO_PCI"] == "y"
    assert list(got).index("CONFIG_HZ_100") < list(got).index("CONFIG_HZ_1000")
    assert kernel.source == f"{plain.source}, configured with {first} and {second}"
    assert any(" allnoconfig" in call for call in calls("make"))


def test_another_configuration_is_another_kernel(
    cache: Path, tree: Path, file: Callable[..., Path]
) -> None:
    plain = resolve(str(tree))
    fragment = file("CONFIG_KASAN=y")
    assert ready(str(tree), configs=[fragment]) is None
    kernel = resolve(str(tree), configs=[fragment])
    assert kernel.image != plain.image
    assert ready(str(tree)) == plain
    assert ready(str(tree), configs=[file("# the same", "CONFIG_KASAN=y")]) == kernel
    assert ready(str(tree), configs=[file("CONFIG_KASAN=n")]) is None
    records = [
        json.loads((cache / "kernels" / name / "kernel.json").read_text("utf-8"))
        for name in entries(cache)
    ]
    without = next(record for record in records if "config" not in record["inputs"])
    assert set(without["inputs"]) == {"options", "recipe", "compiler", "tree", "content"}
    assert "configuration" not in without, "what other versions wrote and read"


def test_what_does_not_survive_is_named(
    tree: Path, file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_DROPPED", "CONFIG_KASAN")
    kernel = resolve(str(tree), configs=[file("CONFIG_KASAN=y", "CONFIG_KCSAN=y")])
    said = ", of which did not survive CONFIG_KASAN=y: this kernel has no such option"
    assert kernel.source.endswith(said)
    assert kernel.log
    assert "CONFIG_KASAN=y: this kernel" in kernel.log.read_text("utf-8")


def test_to_a_whole_configuration_is_added_what_is_needed(
    tree: Path, file: Callable[..., Path], calls: Callable[[str], list[str]]
) -> None:
    needed = [
        f"{one.symbol}={one.value}"
        for one in config.options()
        if not one.chosen and one.symbol not in {"CONFIG_PCI", "CONFIG_IOMMUFD"}
    ]
    whole = file(
        *(*needed, "# CONFIG_PCI is not set", "CONFIG_HZ_250=y", "CONFIG_IOMMUFD=y"),
        'CONFIG_SYSTEM_TRUSTED_KEYS="debian/certs/x.pem"',
        head=HEAD,
    )
    kernel = resolve(str(tree), configs=[whole])
    assert any(" olddefconfig" in call for call in calls("make"))
    got = configured(kernel)
    assert (got["CONFIG_PCI"], got["CONFIG_HZ_250"], got["CONFIG_IOMMUFD"]) == ("y", "y", "y")
    assert "CONFIG_HZ_100" not in got
    added = 'CONFIG_PCI=y, CONFIG_SYSTEM_TRUSTED_KEYS=""'
    assert kernel.source.endswith(f", configured with {whole}, to which was added {added}")


def test_fragments_change_a_whole_configuration(file: Callable[..., Path]) -> None:
    whole = file("CONFIG_A=y", "CONFIG_USERFAULTFD=y", head=HEAD)
    own = read([whole, file("CONFIG_A=n", "CONFIG_USERFAULTFD=n", name="2.config")])
    assert own
    lines = own.render().splitlines()
    assert lines[-2:] == ["# CONFIG_A is not set", "# CONFIG_USERFAULTFD is not set"]
    assert "CONFIG_USERFAULTFD=y" not in lines
    with pytest.raises(Problem, match="is a whole configuration and is not the first file"):
        read([file("CONFIG_A=n", name="2.config"), whole])


def test_what_kconfig_asks_nobody_for_is_not_lost(tree: Path, file: Callable[..., Path]) -> None:
    (tree / "Kconfig").write_text(
        'config CC_VERSION_TEXT\n\tstring\n\tdefault "x"\n\nconfig KASAN\n\tbool "KASAN"\n'
    )
    own = read([file('CONFIG_CC_VERSION_TEXT="gcc 1"', "CONFIG_KASAN=y", head=HEAD)])
    assert own
    made = file(*(f"{one.symbol}={one.value}" for one in own.ours), name="made")
    said, lines = own.check(made, tree)
    assert said.endswith("of which did not survive CONFIG_KASAN=y: came out as n")
    assert not any("CC_VERSION" in line for line in lines)


def test_many_options_are_named_in_the_log(tree: Path, file: Callable[..., Path]) -> None:
    kernel = resolve(str(tree), configs=[file("CONFIG_A=y", head=HEAD)])
    assert " more, see its log" in kernel.source
    assert kernel.log
    text = kernel.log.read_text("utf-8")
    assert kernel.source.count("=") < text.count("added: ")
    assert "added: CONFIG_FAILSLAB=y\n" in text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"CONFIG_A=y\nKASAN=y\n", "not an option: 'KASAN=y' in {path}, line 2"),
        (b"CONFIG_A=\n", "not an option: 'CONFIG_A=' in {path}, line 1"),
        (b'CONFIG_A="open\n', "not an option: 'CONFIG_A=\"open' in {path}, line 1"),
        (b"\x1f\x8b\x08\x00", "not a configuration: {path} is no text"),
        (b"CONFIG_A=y\n\0", "not a configuration: {path} is no text"),
        (
            HEAD.replace("x86", "arm64").encode() + b"CONFIG_A=y\n",
            "{path} is a configuration for arm64",
        ),
        (b"# nothing\n", "{path} sets no option"),
        (None, "cannot read the configuration {path}: No such file or directory"),
        (
            b"CONFIG_A=y\n# CONFIG_VIRTIO_PCI is not set\n",
            "CONFIG_VIRTIO_PCI=n in {path}, line 2: the guest needs CONFIG_VIRTIO_PCI=y",
        ),
        (
            b"CONFIG_VIRTIO_CONSOLE=m\n",
            "CONFIG_VIRTIO_CONSOLE=m in {path}, line 1: the guest needs CONFIG_VIRTIO_CONSOLE=y",
        ),
    ],
)
def test_files_of_no_use(
    cache: Path, tree: Path, tmp_path: Path, content: bytes | None, said: str
) -> None:
    path = tmp_path / "my.config"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Problem) as caught:
        resolve(str(tree), configs=[path])
    assert caught.value.what == said.format(path=path)
    assert not cache.exists()


def test_a_kernel_without_what_the_guest_needs_is_not_kept(
    cache: Path, tree: Path, file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_DROPPED", "CONFIG_IOMMUFD")
    path = file("CONFIG_A=y")
    with pytest.raises(
        Problem, match=f"with {path} the kernel's Kconfig does not accept"
    ) as caught:
        resolve(str(tree), configs=[path])
    assert "CONFIG_IOMMUFD=m: came out as n (it depends on IOMMU_SUPPORT" in caught.value.detail
    assert entries(cache) == []


def test_kernels_that_are_not_built_here(tmp_path: Path, file: Callable[..., Path]) -> None:
    image = tmp_path / "bzImage"
    image.write_bytes(b"\0" * 0x202 + b"HdrS")
    for spec in ("running", str(image)):
        with pytest.raises(Problem, match="a configuration is given, and kernel "):
            ready(spec, configs=[file("CONFIG_KASAN=y")])


def test_patched_kernels(tree: Path, tmp_path: Path, file: Callable[..., Path]) -> None:
    add_sources(tree)
    series = make_series(tmp_path / "fix", make_diff())
    fragment = file("CONFIG_KASAN=y")
    kernel = resolve(f"{tree}+{series}", configs=[fragment])
    assert configured(kernel)["CONFIG_KASAN"] == "y"
    assert configured(ready(str(tree), configs=[fragment]))["CONFIG_KASAN"] == "y"
    assert kernel.source.count("configured with") == 1
    assert ready(f"{tree}+{series}") is None


def test_workspaces(tree: Path, file: Callable[..., Path]) -> None:
    add_sources(tree)
    spec = parse(str(tree), [file("CONFIG_KASAN=y")])
    with open_workspace(spec, Cache.at(None), Recorder()) as workspace:

        def built() -> str:
            workspace.bring(workspace.differing(None, Recorder()))
            return workspace.build(Recorder())

        (tree / "Makefile").write_text("VERSION = 7\n")
        assert built() == "kernel"
        kernel = ready(str(workspace.folder))
        assert configured(kernel)["CONFIG_KASAN"] == "y"
        assert kernel
        assert "configured with" in kernel.source
        (tree / HWPT).write_text("int edited;\n")
        assert built() == "module"
        # as where iommufd is built in
        (workspace.folder / "build/drivers/iommu/iommufd/iommufd.ko").unlink()
        (tree / HWPT).write_text("int again;\n")
        assert built() == "kernel"


def test_commands(
    tree: Path, file: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    fragment = file("CONFIG_KASAN=y")
    assert main(["kernel", "build", str(tree), "--config", str(fragment)]) == 0
    assert f"configured with {fragment}\n" in capsys.readouterr().out
    assert main(["kernel", "path", str(tree)]) == 2
    assert main(["kernel", "path", str(tree), "--iommufd-config", str(fragment)]) == 0
    capsys.readouterr()
    gone = str(fragment.with_name("gone"))
    for words in ([str(tree), "--iommufd-config", gone], ["--config", gone, str(tree)]):
        assert main(["watch", *words]) == 2
        assert f"cannot read the configuration {gone}" in capsys.readouterr().err
