# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel's own configuration promises: whether it can be tested, before it is booted."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_iommufd.errors import Problem

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_iommufd.kernel.asis.modules import Modules

# What a guest cannot do without, and the module that it may be.
_GUEST = {
    "BLK_DEV_INITRD": "",
    "DEVTMPFS": "",
    "PROC_FS": "",
    "SYSFS": "",
    "TMPFS": "",
    "PCI": "",
    "SERIAL_8250_CONSOLE": "",
    "VIRTIO_PCI": "virtio_pci",
    "VIRTIO_CONSOLE": "virtio_console",
}
_IOMMUFD = {"IOMMUFD": "iommufd"}
_LINE = re.compile(r"CONFIG_(\w+)=(.*)")
_TITLE = re.compile(r"^# Linux/(\w+) \S+ Kernel Configuration$", re.MULTILINE)
_HERE = "x86"


def read(path: Path) -> dict[str, str]:
    """Read a .config.

    Args:
        path: the file.

    Returns:
        Values by name, without `CONFIG_`; options that are not set are left out.

    Raises:
        Problem: it cannot be read, or is another architecture's.
    """
    try:
        text = path.read_text("utf-8", errors="replace")
    except OSError as error:
        raise Problem(f"cannot read the configuration {path}: {error.strerror}") from error
    title = _TITLE.search(text)
    if title and title[1] != _HERE:
        raise Problem(f"the kernel of {path} is for {title[1]}", expected=f"a kernel for {_HERE}")
    return {match[1]: match[2] for line in text.splitlines() if (match := _LINE.fullmatch(line))}


def check(name: str, configuration: Path | None, modules: Modules | None) -> None:
    """See that a kernel has iommufd and what a guest needs, as far as that can be known.

    Args:
        name: the kernel's, for people.
        configuration: its .config; None when there is none.
        modules: its modules; None when none are known.

    Raises:
        Problem: it lacks something.
    """
    said = read(configuration) if configuration else None
    if _lacking(_IOMMUFD, said, modules):
        raise Problem(
            f"kernel {name} has no iommufd: {_where(configuration, modules)}, "
            "so there is nothing to test"
        )
    if lacking := _lacking(_GUEST, said, modules):
        raise Problem(
            f"kernel {name} cannot run as a guest: {_where(configuration, modules, lacking[0])}",
            expected="a kernel that reaches the agent through virtio, from an initramfs",
            mend="switch on " + ", ".join(f"CONFIG_{option}=y" for option in lacking),
        )
    if said is None:
        return
    for option, module in {**_GUEST, **_IOMMUFD}.items():
        if said.get(option) == "m" and not (modules and modules.has(module)):
            raise Problem(
                f"kernel {name} has {module} as a module (CONFIG_{option}=m), which is not "
                + (f"in {modules.folder}" if modules else "given"),
                mend="--iommufd-modules FOLDER, with the modules of this image",
            )


def _lacking(
    options: dict[str, str], said: dict[str, str] | None, modules: Modules | None
) -> list[str]:
    if said is not None:
        return [option for option in options if option not in said]
    return [
        option
        for option, module in options.items()
        if module and modules and modules.has(module) is False
    ]


def _where(configuration: Path | None, modules: Modules | None, option: str = "IOMMUFD") -> str:
    if configuration:
        return f"CONFIG_{option} is not set in {configuration}"
    folder = modules.folder if modules else ""
    return f"{(_GUEST | _IOMMUFD)[option]} is neither built in nor in {folder}"
