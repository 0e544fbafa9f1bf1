# SPDX-License-Identifier: GPL-2.0-only
"""Describe a kernel's iommufd ABI, read from its headers by the compiler.

The tree need not be built or configured, and the machine needs no kernel headers of its own.
"""

from __future__ import annotations

import json
import platform
import re
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cffi import CDefError, FFIError

from pytest_iommufd.errors import Problem
from pytest_iommufd.host.run import ask
from pytest_iommufd.uapi.abi import FORMAT, Uapi

_IOMMUFD = "include/uapi/linux/iommufd.h"
_VFIO = "include/uapi/linux/vfio.h"
_TEST = "drivers/iommu/iommufd/iommufd_test.h"

# iommufd stands in for a type1 container, and VFIO binds real devices to it; no more of VFIO.
_VFIO_STRUCT = re.compile(
    r"vfio_(iommu_type1_\w+|info_cap_header|iova_range|bitmap|device_(bind|attach|detach)_iommufd\w*)"
)

# What a build would generate: the architecture's headers that are the generic ones.
_GENERATED = ("bitsperlong", "ioctl", "posix_types", "types")

_ARCH = {
    "aarch64": "arm64",
    "i686": "x86",
    "ppc64le": "powerpc",
    "riscv64": "riscv",
    "s390x": "s390",
    "x86_64": "x86",
}

# Enough of C for what matters here. pycparser would have to understand all of each header that is
# included, of any kernel and architecture: it stops at __extension__, typeof and what comes next.
_WORD = re.compile(r"\w+|'(?:\\.|[^'])*'|\"(?:\\.|[^\"])*\"|\.\.\.|\S")

_POINTER = re.compile(r"\w[\w ]*\*+ *(?=\w+;)(\w+)")


@dataclass
class _Headers:
    """What the headers declare, before the compiler gave numbers to it."""

    structs: dict[str, list[str]] = field(default_factory=dict)
    enums: list[tuple[str, list[str]]] = field(default_factory=list)
    macros: dict[str, str] = field(default_factory=dict)


def describe(tree: Path, destination: Path, *, build: Path | None = None) -> None:
    """Write the description of a source tree's ABI.

    Args:
        tree: a kernel source tree, or as much of one as holds the uAPI headers. Without
            iommufd_test.h the description lacks the test operations; its `headers` tell.
        destination: the JSON file to write.
        build: the tree's build directory, if it has one.

    Raises:
        Problem: no compiler, no iommufd in the tree, or headers that do not compile.
    """
    if not (tree / _IOMMUFD).is_file():
        raise Problem(
            f"{tree} has no {_IOMMUFD}",
            expected="a Linux source tree with iommufd (6.2 or later); "
            "this one is too old or not a kernel tree",
        )
    headers = [name for name in (_IOMMUFD, _VFIO, _TEST) if (tree / name).is_file()]
    with tempfile.TemporaryDirectory(prefix="pytest-iommufd-") as scratch:
        compiler = _Compiler(tree, build, Path(scratch), headers)
        description = _describe(compiler, headers, destination.stem)
    description["kernel"] = _version(tree, build)
    destination.parent.mkdir(parents=True, exist_ok=True)
    destination.write_text(json.dumps(description, indent=1) + "\n")


def _describe(compiler: _Compiler, headers: list[str], title: str) -> dict[str, Any]:
    found = _parse(compiler.preprocess(), headers)
    enumerators = [name for _, names in found.enums for name in names]
    values = compiler.evaluate({name: name for name in [*enumerators, *found.macros]})
    ioctls = {
        name: values[name]
        for name, body in found.macros.items()
        if name in values and re.match(r"_IO[RW]*\b", body)
    }
    named = {tag: {name: values[name] for name in names} for tag, names in found.enums if tag}
    placed = ioctls.keys() | {name for names in named.values() for name in names}
    description: dict[str, Any] = {
        "format": FORMAT,
        "kernel": "",
        "headers": headers,
        "structs": {
            name: {"size": 0, "decl": _declaration(words, values)}
            for name, words in found.structs.items()
        },
        "enums": named,
        "ioctls": ioctls,
        "constants": {name: value for name, value in values.items() if name not in placed},
    }
    # The declarations lost their attributes: let the compiler confirm that none mattered.
    try:
        uapi = Uapi(description, title)
    except (CDefError, FFIError) as error:
        raise Problem(
            f"cffi cannot read a struct of {', '.join(headers)}", detail=str(error)
        ) from error
    layout = compiler.evaluate({key: _layout_expression(key) for key in uapi.layout()})
    uapi.check_layout(layout, who="the compiler")
    for name, struct in description["structs"].items():
        struct["size"] = layout[name]
    return description


class _Compiler:
    """gcc, run in a tree so that the file names it prints are the tree's own."""

    def __init__(self, tree: Path, build: Path | None, scratch: Path, headers: list[str]) -> None:
        (scratch / "asm").mkdir()
        for name in _GENERATED:
            (scratch / "asm" / f"{name}.h").write_text(f"#include <asm-generic/{name}.h>\n")
        # What installing the headers would strip: a kernel-only include, and `__user` below.
        (scratch / "linux").mkdir()
        (scratch / "linux/compiler_types.h").touch()
        arch = f"arch/{_ARCH.get(platform.machine(), platform.machine())}/include"
        folders = ["include/uapi", f"{arch}/uapi"]
        if build is not None:
            folders += [
                str(build.resolve() / f"{arch}/generated/uapi"),
                str(build.resolve() / "include/generated/uapi"),
            ]
        folders.append(str(scratch))
        self.tree = tree
        self.headers = headers
        self.flags = [
            "-w",
            "-nostdinc",
            "-ftrack-macro-expansion=0",
            "-D__EXPORTED_HEADERS__",
            "-D__user=",
        ]
        self.flags += [f"-I{folder}" for folder in folders]
        self.includes = [f'#include "{name}"' for name in headers]

    def preprocess(self) -> str:
        status, text, errors = self._run(["-E", "-dD", "-D__attribute__(x)="], self.includes)
        if status:
            self._refuse(errors)
        return text

    def evaluate(self, expressions: dict[str, str]) -> dict[str, int]:
        """Value of each expression; those that are no integer constants are left out."""
        wanted = dict(expressions)
        while True:
            lines = [*self.includes, "void values(void) {"]
            first = len(lines) + 1
            lines += [
                f'asm volatile("-> {name} %0 %1" : : "i"((long long)({text})), "i"(({text}) < 0));'
                for name, text in wanted.items()
            ]
            status, assembly, errors = self._run(["-S", "-o", "-"], [*lines, "}"])
            if not status:
                return dict(_read_values(assembly))
            names = list(wanted)
            bad = {
                names[int(line) - first]
                for line in re.findall(r"^<stdin>:(\d+):\d+: error", errors, re.MULTILINE)
                if first <= int(line) < first + len(names)
            }
            if not bad:
                self._refuse(errors)
            wanted = {name: text for name, text in wanted.items() if name not in bad}

    def _run(self, flags: list[str], lines: list[str]) -> tuple[int, str, str]:
        command = ["gcc", *self.flags, *flags, "-x", "c", "-"]
        try:
            done = ask(command, cwd=self.tree, text="\n".join(lines) + "\n")
        except FileNotFoundError:
            raise Problem(
                "no C compiler: gcc is needed to read a kernel's headers",
                mend="apt-get install gcc libc6-dev",
            ) from None
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def _refuse(self, stderr: str) -> None:
        raise Problem(
            f"the headers of {self.tree} do not compile: {', '.join(self.headers)}",
            detail="\n".join(stderr.splitlines()[-15:]),
        )


def _read_values(assembly: str) -> list[tuple[str, int]]:
    found = re.findall(r"-> (\S+) [$#]?(-?\d+) [$#]?([01])$", assembly, re.MULTILINE)
    # The assembly shows 64 bits as signed; the second number tells what the sign was in C.
    return [
        (name, int(value) if negative == "1" else int(value) % 2**64)
        for name, value, negative in found
    ]


def _parse(text: str, headers: list[str]) -> _Headers:
    found = _Headers()
    current = ""
    sources: dict[str, list[str]] = {name: [] for name in headers}
    for line in text.splitlines():
        if marker := re.match(r'# \d+ "(.*?)"', line):
            current = marker[1].removeprefix("./")
        elif current not in sources:
            continue
        elif macro := re.match(r"#define (\w+) (.+)", line):
            found.macros[macro[1]] = macro[2]
        elif not line.startswith("#"):
            sources[current].append(line)
    for header, lines in sources.items():
        for words in _statements("\n".join(lines)):
            _sort(words, header, found)
    return found


def _statements(text: str) -> list[list[str]]:
    statements: list[list[str]] = [[]]
    depth = 0
    for word in _WORD.findall(text):
        statements[-1].append(word)
        depth += (word == "{") - (word == "}")
        if word == ";" and not depth:
            statements.append([])
    return statements


def _sort(words: list[str], header: str, found: _Headers) -> None:
    match words:
        case ["struct", name, "{", *_] if header != _VFIO or _VFIO_STRUCT.fullmatch(name):
            found.structs[name] = words
        case ["enum", "{", *body, "}", ";"]:
            found.enums.append(("", _enumerators(body)))
        case ["enum", tag, "{", *body, "}", ";"]:
            found.enums.append((tag, _enumerators(body)))
        case _:
            pass


def _enumerators(body: list[str]) -> list[str]:
    names = []
    depth = 0
    for before, word in zip([",", *body], body, strict=False):
        if before == "," and not depth:
            names.append(word)
        depth += (word == "(") - (word == ")")
    return names


def _declaration(words: list[str], values: dict[str, int]) -> str:
    """One field a line; array lengths are numbers, and so are pointers."""
    lines = [""]
    depth = 0
    for before, word in zip(["", *words], words, strict=False):
        depth -= word == "}"
        if not lines[-1]:
            lines[-1] = "\t" * depth
        elif word not in "[];," and before != "[":
            lines[-1] += " "
        lines[-1] += str(values[word]) if before == "[" and word in values else word
        if word == ";":
            lines[-1] = _POINTER.sub(r"uintptr_t \1", lines[-1])
        depth += word == "{"
        if word in "{;":
            lines.append("")
    return "\n".join(lines).rstrip()


def _layout_expression(key: str) -> str:
    struct, _, path = key.partition(".")
    return f"__builtin_offsetof(struct {struct}, {path})" if path else f"sizeof(struct {struct})"


def _version(tree: Path, build: Path | None) -> str:
    release = build / "include/config/kernel.release" if build else None
    if release and release.is_file():
        return release.read_text().strip()
    makefile = tree / "Makefile"
    text = makefile.read_text() if makefile.is_file() else ""
    numbers = re.findall(r"^(?:VERSION|PATCHLEVEL|SUBLEVEL) *= *(\d+)$", text, re.MULTILINE)
    return ".".join(numbers)


def main(arguments: list[str]) -> int:
    """Run `python -m pytest_iommufd.uapi.describe TREE DESTINATION`."""
    if len(arguments) != 2:
        sys.stderr.write("usage: python -m pytest_iommufd.uapi.describe TREE DESTINATION\n")
        return 2
    try:
        describe(Path(arguments[0]), Path(arguments[1]))
    except Problem as problem:
        sys.stderr.write(f"{problem}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
