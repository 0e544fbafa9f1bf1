# SPDX-License-Identifier: GPL-2.0-only
"""Guests with an IOMMU, and the devices behind it that tests may take."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.errors import Problem
from pytest_iommufd.machine import passthrough, process
from pytest_iommufd.machine.iommu import IOMMUS, PCI_DEVICES
from pytest_iommufd.machine.local import LocalMachine
from pytest_iommufd.machine.process import entry_names
from pytest_iommufd.machine.qemu import Guest

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.machine import Process
    from pytest_iommufd.machine.vm import VirtualMachine

NO_DEVICE = "0000:ff:1f.7"


def command(iommu: str) -> list[str]:
    return Guest(Path("image"), None, "tcg", iommu=iommu).command(Path("folder"))


@pytest.mark.parametrize("name", IOMMUS)
def test_an_iommu_comes_before_the_devices_behind_it(name: str) -> None:
    words = command(name)
    devices = [words[at + 1] for at, word in enumerate(words) if word == "-device"]
    assert devices[0].startswith(f"{name}-iommu,")
    assert [device.partition(",")[0] for device in devices[1:]][: len(PCI_DEVICES)] == ["edu"] * 3
    assert set(IOMMUS[name].arguments) <= set(words[words.index("-append") + 1].split())


# What QEMU 7.2, 10.0 and 11.1 say of the IOMMU's properties that are set, and of others.
HELP = {
    "7.2": """\
intel-iommu options:
  caching-mode=<bool>    -  (default: false)
  intremap=<OnOffAuto>   - on/off/auto (default: "auto")
  snoop-control=<bool>   -  (default: false)
  x-pasid-mode=<bool>    -  (default: false)
  x-scalable-mode=<bool> -  (default: false)
""",
    "10.0": """\
intel-iommu options:
  caching-mode=<bool>    - on/off (default: off)
  intremap=<OnOffAuto>   - on/off/auto (default: auto)
  snoop-control=<bool>   - on/off (default: off)
  x-flts=<bool>          - on/off (default: off)
  x-pasid-mode=<bool>    - on/off (default: off)
  x-scalable-mode=<bool> - on/off (default: off)
""",
    "11.1": """\
intel-iommu options:
  caching-mode=<bool>    - on/off (default: off)
  fsts=<bool>            - on/off (default: off)
  intremap=<OnOffAuto>   - on/off/auto (default: auto)
  pasid-bits=<uint8>     -  (default: 0)
  scalable-mode=<bool>   - on/off (default: off)
  snoop-control=<bool>   - on/off (default: off)
""",
    "6.0": "intel-iommu options:\n  intremap=<OnOffAuto>   - on/off/auto\n",
}
EDU = "edu options:\n  addr=<int32>           - Slot and optional function number\n"


@pytest.fixture
def other_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Puts a script on an otherwise empty PATH, under Red Hat's name for QEMU; it knows devices."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def make(**devices: str) -> Path:
        script = folder / "qemu-kvm"
        cases = "".join(f"{name},help) echo '{text}';;\n" for name, text in devices.items())
        unknown = "*) echo \"$0: -device $2: Device '${2%,help}' not found\" >&2;;"
        script.write_text(f'#!/bin/sh\ncase "$2" in\n{cases}{unknown}\nesac\n')
        script.chmod(0o755)
        return script

    return make


@pytest.mark.parametrize(
    ("version", "scalable"),
    [("7.2", "x-scalable-mode=on"), ("10.0", "x-scalable-mode=on"), ("11.1", "scalable-mode=on")],
)
def test_properties_have_the_names_that_this_qemu_knows(
    other_qemu: Callable[..., Path], version: str, scalable: str
) -> None:
    program = other_qemu(**{"intel-iommu": HELP[version], "edu": EDU})
    words = command("intel")
    assert words[0] == str(program)
    device = next(word for word in words if word.startswith("intel-iommu,"))
    assert set(device.split(",")[1:]) == {
        "intremap=on",
        "caching-mode=on",
        scalable,
        "snoop-control=on",
    }


@pytest.mark.parametrize(
    ("devices", "what"),
    [
        ({}, "Device 'intel-iommu' not found"),
        ({"intel-iommu": HELP["11.1"]}, "Device 'edu' not found"),
        ({"intel-iommu": HELP["6.0"], "edu": EDU}, "intel-iommu has no property caching-mode"),
    ],
    ids=["no IOMMU", "no device behind it", "an old one"],
)
def test_a_qemu_without_the_devices_is_told_as_that(
    other_qemu: Callable[..., Path], devices: dict[str, str], what: str
) -> None:
    program = other_qemu(**devices)
    with pytest.raises(Problem, match=f"{program} cannot give a guest the IOMMU: .*{what}"):
        command("intel")


def test_without_an_iommu_there_is_none_of_it() -> None:
    words = " ".join(command("none"))
    assert "edu" not in words
    assert "iommu," not in words
    assert "-M q35 " in words


def test_a_guest_without_an_iommu_has_nothing_to_take(vm: VirtualMachine) -> None:
    with pytest.raises(passthrough.UnavailableError, match="--iommufd-iommu"):
        passthrough.nodes(vm)


@pytest.mark.parametrize("name", IOMMUS)
def test_devices_are_found_with_their_groups(
    name: str, new_vm: Callable[..., VirtualMachine]
) -> None:
    machine = new_vm(iommu=name)
    nodes = passthrough.nodes(machine)
    assert tuple(node.address for node in nodes) == PCI_DEVICES
    assert {node.driver for node in nodes} == {name}
    alone, one, other = (node.group for node in nodes)
    assert alone != one == other
    task = machine.process()
    assert {Path(node.path).name for node in nodes} == set(task.list_folder("/dev/vfio/devices"))
    # once they are taken nothing changes
    assert passthrough.nodes(machine) == nodes


def test_a_kernel_that_does_not_use_the_iommu_gives_no_device(
    new_vm: Callable[..., VirtualMachine], monkeypatch: pytest.MonkeyPatch
) -> None:
    off = dataclasses.replace(IOMMUS["intel"], arguments=("intel_iommu=off",))
    monkeypatch.setitem(IOMMUS, "intel", off)
    with pytest.raises(passthrough.UnavailableError, match="the kernel uses no IOMMU for it"):
        passthrough.nodes(new_vm(iommu="intel"))


def test_a_kernel_without_vfio_pci_gives_no_device(
    new_vm: Callable[..., VirtualMachine],
) -> None:
    machine = new_vm(iommu="intel")
    machine.modules = machine.modules[:1]
    with pytest.raises(passthrough.UnavailableError, match=r"No such file.*drivers/vfio-pci"):
        passthrough.nodes(machine)


def test_a_kernel_without_files_of_vfio_devices_gives_no_device(
    new_vm: Callable[..., VirtualMachine],
) -> None:
    machine = new_vm(iommu="intel")
    task = machine.process()
    for node in passthrough.nodes(machine):
        task.write(task.arena, node.path.encode() + b"\0")
        task.checked("unlinkat", process.AT_FDCWD, task.arena, 0)
    with pytest.raises(passthrough.UnavailableError, match="CONFIG_VFIO_DEVICE_CDEV=y brings it"):
        passthrough.nodes(machine)


def test_a_device_of_this_machine_must_be_bound_by_its_owner(agent_program: Path) -> None:
    machine = LocalMachine(agent_program, pci_devices=(NO_DEVICE,))
    try:
        with pytest.raises(Problem, match=f"--iommufd-vfio {NO_DEVICE}") as caught:
            passthrough.nodes(machine)
    finally:
        machine.stop()
    assert "driver_override" in str(caught.value)


def test_a_folder_is_listed_whole(task: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    names = task.list_folder("/")
    assert {"dev", "proc", "sys"} <= set(names)
    assert not {".", ".."} & set(names)
    at_once = task.list_folder("/sys/kernel/slab")
    monkeypatch.setattr(process, "_PIECE", 512)
    in_pieces = task.list_folder("/sys/kernel/slab")
    assert sorted(in_pieces) == sorted(at_once)


def test_names_of_entries_are_read() -> None:
    entry = (7).to_bytes(8, "little") + bytes(8) + (24).to_bytes(2, "little") + b"\x04"
    assert entry_names(entry + b".\0\0\0\0" + entry + b"a\xc3\xbc\0\0") == ["aü"]
