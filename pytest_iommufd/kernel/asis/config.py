# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel's own configuration promises: whether it can be tested, before it is booted."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_iommufd.errors import Problem
from pytest_iommufd.kernel.build.config import values

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
_TITLE = re.compile(r"^# Linux/(\w+) \S+ Kernel Configuration$", re.MULTILINE)
_HERE = "x86"


@dataclass(frozen=True)
class Config:
    """A kernel's configuration.

    Attributes:
        where: the file that it was read from, for people.
        values: by name, without `CONFIG_`; options that are not set are left out.
    """

    where: str
    values: dict[str, str]


def read(path: Path) -> Config:
    """Read a .config.

    Args:
        path: the file.

    Raises:
        Problem: it cannot be read, or is another architecture's.
    """
    try:
        text = path.read_text("utf-8", errors="replace")
    except OSError as error:
        raise Problem(f"cannot read the configuration {path}: {error.strerror}") from error
    return parse(text, str(path))


def parse(text: str, where: str) -> Config:
    """Understand the text of a .config.

    Args:
        text: all of it.
        where: where it is from, for people.

    Raises:
        Problem: it is another architecture's.
    """
    title = _TITLE.search(text)
    if title and title[1] != _HERE:
        raise Problem(f"the kernel of {where} is for {title[1]}", expected=f"a kernel for {_HERE}")
    found = values(text).items()
    return Config(where, {symbol.removeprefix("CONFIG_"): value for symbol, value in found})


def check_iommufd(name: str, config: Config | None, modules: Modules | None) -> None:
    """See that a kernel has iommufd, as far as that can be known.

    Args:
        name: the kernel's, for people.
        config: its configuration; None when it is not known.
        modules: its modules; None when none are known.

    Raises:
        Problem: it has none.
    """
    if _lacking(_IOMMUFD, config, modules):
        raise Problem(
            f"kernel {name} has no iommufd: {_where('IOMMUFD', config, modules)}, "
            "so there is nothing to test"
        )


def check(name: str, config: Config | None, modules: Modules | None) -> None:
    """See that a kernel has iommufd and what a guest needs; the arguments are `check_iommufd`'s.

    Raises:
        Problem: it lacks something.
    """
    check_iommufd(name, config, modules)
    if lacking := _lacking(_GUEST, config, modules):
        raise Problem(
            f"kernel {name} cannot run as a guest: {_where(lacking[0], config, modules)}",
            expected="a kernel that reaches the agent through virtio, from an initramfs",
            mend="switch on " + ", ".join(f"CONFIG_{option}=y" for option in lacking),
        )
    for option, module in {**_GUEST, **_IOMMUFD}.items():
        is_module = config is not None and config.values.get(option) == "m"
        if is_module and not (modules and modules.has(module)):
            raise Problem(
                f"kernel {name} has {module} as a module (CONFIG_{option}=m), which is not "
                + (f"in {modules.folder}" if modules else "given"),
                mend="--iommufd-modules FOLDER, with the modules of this image; "
                "of packages, all of the kernel: --kernel FILE:FILE",
            )


def _lacking(options: dict[str, str], config: Config | None, modules: Modules | None) -> list[str]:
    if config:
        return [option for option in options if option not in config.values]
    return [
        option
        for option, module in options.items()
        if module and modules and modules.has(module) is False
    ]


def _where(option: str, config: Config | None, modules: Modules | None) -> str:
    if config:
        return f"CONFIG_{option} is not set in {config.where}"
    folder = modules.folder if modules else ""
    return f"{(_GUEST | _IOMMUFD)[option]} is neither built in nor in {folder}"
