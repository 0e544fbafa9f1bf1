# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel can be asked without a device."""

from __future__ import annotations

import re
from errno import ENOTTY
from typing import TYPE_CHECKING

from pytest_iommufd.agent.protocol import Program
from pytest_iommufd.caps.model import COMMANDS, State
from pytest_iommufd.caps.sizes import Sizes
from pytest_iommufd.iommufd import IoctlError
from pytest_iommufd.iommufd.vfio import VfioContainer
from pytest_iommufd.uapi import errno_name

if TYPE_CHECKING:
    from pytest_iommufd.caps.asker import Asker

FIELDS = "fields behind a struct's first version"
VFIO = "VFIO on /dev/iommu"
EXTENSIONS = "VFIO_CHECK_EXTENSION"
DEVICES = "device files of VFIO"
PAGES = "page sizes"
OPERATIONS = "IOMMU_TEST_CMD.op"
CDEV = "vfio-dev"
GROUP = "vfio"

# Commands with flags, and what else a call needs so that its flags are looked at. The objects that
# are named do not exist: what is accepted fails for that, or makes an object in a context that is
# thrown away.
_FLAGS: dict[str, dict[str, int]] = {
    "IOMMU_IOAS_ALLOC": {},
    "IOMMU_IOAS_MAP": {},
    "IOMMU_IOAS_MAP_FILE": {},
    "IOMMU_IOAS_COPY": {},
    "IOMMU_IOAS_NOIOMMU_GET_PA": {},
    "IOMMU_GET_HW_INFO": {},
    "IOMMU_HWPT_SET_DIRTY_TRACKING": {},
    "IOMMU_HWPT_GET_DIRTY_BITMAP": {},
    "IOMMU_FAULT_QUEUE_ALLOC": {},
    "IOMMU_VIOMMU_ALLOC": {"type": 1},
    "IOMMU_VEVENTQ_ALLOC": {"type": 1, "veventq_depth": 1},
    "IOMMU_HW_QUEUE_ALLOC": {"type": 1, "length": 1},
}
_VFIO = (
    "VFIO_GET_API_VERSION",
    "VFIO_CHECK_EXTENSION",
    "VFIO_SET_IOMMU",
    "VFIO_IOMMU_GET_INFO",
    "VFIO_IOMMU_MAP_DMA",
    "VFIO_IOMMU_UNMAP_DMA",
    "VFIO_IOMMU_DIRTY_PAGES",
)
_EXTENSIONS = (
    "VFIO_TYPE1_IOMMU",
    "VFIO_TYPE1v2_IOMMU",
    "VFIO_DMA_CC_IOMMU",
    "VFIO_UNMAP_ALL",
    "VFIO_UPDATE_VADDR",
    "VFIO_NOIOMMU_IOMMU",
)
# The default: any other would stay (TEMP_MEMORY_LIMIT of selftest.c).
_MEMORY_LIMIT = 65536
# Commands of iommufd have these numbers of their type (IOMMUFD_CMD_BASE).
_NUMBERS = range(0x80, 0x100)


def ask(asker: Asker) -> None:
    """Ask all that can be asked without a device."""
    _commands(asker)
    _flags(asker)
    _options(asker)
    _operations(asker)
    _vfio(asker)
    _devices(asker)
    _pages(asker)


def _commands(asker: Asker) -> None:
    """Ask for commands, with their sizes; those without a name included."""
    commands = asker.headers.commands()
    template = next(iter(commands.values())) & ~0xFF
    named = {number & 0xFF: name for name, number in commands.items()}
    numbers = {named.get(low, hex(low)): template | low for low in _NUMBERS}
    program = Program()
    program.write(asker.process.arena, bytes(8))
    calls = {
        # a size of 0 is rejected before a command does anything
        name: program.syscall("ioctl", asker.context.fd, number, asker.process.arena)
        for name, number in numbers.items()
    }
    results = asker.process.run(program, during="asking which commands there are")
    sizes = Sizes(asker.process, asker.context.fd)
    for name, call in calls.items():
        known = name in commands
        if results[call.index].errno == ENOTTY:
            if known:
                asker.note(COMMANDS, name, State.NO, "ENOTTY", header=name)
            continue
        accepted = sizes.ask(numbers[name])
        told = _sizes(*accepted) if accepted else ""
        why = "" if accepted else "the kernel does not look at the size first"
        asker.note(COMMANDS, name, State.YES, why, told, name if known else "")
        if known and accepted:
            _fields(asker, name, *accepted)


def _sizes(least: int, size: int) -> str:
    return f"{size} bytes" if least == size else f"{size} bytes, {least} suffice"


def _fields(asker: Asker, command: str, least: int, size: int) -> None:
    """Tell which fields of the command's struct lie within the size that the kernel knows."""
    struct = asker.headers.struct(command)
    if command == "IOMMU_TEST_CMD" or not struct:
        return
    for name in asker.headers.fields(struct):
        uapi = asker.headers.of(f"{struct}.{name}")
        end = uapi.offsetof(struct, name) + uapi.sizeof(struct, name)
        if end > least and not name.startswith("__"):
            state = State.YES if end <= size else State.NO
            why = f"the kernel's struct has {size} bytes"
            asker.note(FIELDS, f"{command}.{name}", state, why, header=f"{struct}.{name}")


def _flags(asker: Asker) -> None:
    for command, fields in _FLAGS.items():
        path = f"{asker.headers.struct(command)}.flags"
        asker.flags(f"{command}.flags", path, command, fields)


def _options(asker: Asker) -> None:
    """Ask for options by reading them: those of the context, and those of an IOAS."""
    given = {"op": asker.headers.spoken.IOMMU_OPTION_OP_GET}
    values = asker.headers.values("iommu_option.option_id")
    spare = max(values.values()) + 1
    numbers = [*values.values(), spare]
    answers = [
        asker.errnos("IOMMU_OPTION", "option_id", numbers, given | {"object_id": target})
        for target in (0, asker.context.ioas_alloc())
    ]
    best = {number: min(each[number] for each in answers) for number in numbers}
    asker.values("IOMMU_OPTION.option_id", values, best, spare=spare)


def _operations(asker: Asker) -> None:
    """Ask for the operations of iommufd_test, on an object that does not exist."""
    given = {"memory_limit": {"limit": _MEMORY_LIMIT}}
    values = asker.headers.values("iommu_test_cmd.op")
    limit = {name: op for name, op in values.items() if name.endswith("SET_TEMP_MEMORY_LIMIT")}
    others = {name: op for name, op in values.items() if name not in limit}
    asker.types(OPERATIONS, others, "IOMMU_TEST_CMD", "op")
    asker.types(OPERATIONS, limit, "IOMMU_TEST_CMD", "op", given)


def _vfio(asker: Asker) -> None:
    """Ask for the ioctls of a VFIO container, and its extensions."""
    for name in _VFIO:
        number = asker.headers.of(name).ioctl(name).number
        got = asker.process.syscall("ioctl", asker.context.fd, number, 0).errno
        state = State.NO if got == ENOTTY else State.YES
        asker.note(VFIO, name, state, errno_name(got) if got else "OK", header=name)
    ioas = asker.context.ioas_alloc()
    op = asker.headers.spoken.IOMMU_VFIO_IOAS_SET
    asker.errno("IOMMU_VFIO_IOAS", op=op, ioas_id=ioas)
    container = VfioContainer(asker.context)
    for name in _EXTENSIONS:
        try:
            got = container.check_extension(getattr(asker.headers.of(name), name))
        except IoctlError as error:
            asker.note(EXTENSIONS, name, State.UNKNOWN, errno_name(error.errno or 0), header=name)
        else:
            state = State.YES if got else State.NO
            asker.note(EXTENSIONS, name, state, f"it returns {got}", header=name)


def _devices(asker: Asker) -> None:
    """Look which kinds of device files VFIO has registered."""
    process = asker.process
    listed = process.read_file("/proc/devices").decode()
    classes = process.list_folder("/sys/class")
    for name, option in ((CDEV, "VFIO_DEVICE_CDEV"), (GROUP, "VFIO_GROUP")):
        if re.search(rf"^ *\d+ {name}$", listed, re.MULTILINE):
            asker.note(DEVICES, name, State.YES, "/proc/devices lists it")
        elif CDEV in classes:
            why = f"/proc/devices does not list it, though VFIO runs: no CONFIG_{option}"
            asker.note(DEVICES, name, State.NO, why)
        else:
            asker.note(DEVICES, name, State.UNKNOWN, "VFIO is not loaded: /sys/class/vfio-dev")


def _pages(asker: Asker) -> None:
    size = asker.process.hello.page_size
    asker.note(PAGES, "the processor's", State.YES, value=pages(size))


def pages(bits: int) -> str:
    """Write the sizes in bytes that a bitmap stands for; only the ends if there are many."""
    words = [_size(bit) for bit in range(64) if bits >> bit & 1]
    return ", ".join(words) if len(words) <= 4 else f"{len(words)} from {words[0]} to {words[-1]}"


def _size(bit: int) -> str:
    """Write a power of two in bytes."""
    thousands, rest = divmod(bit, 10)
    unit = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")[thousands]
    return f"{1 << rest} {unit}"
