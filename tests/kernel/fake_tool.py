# SPDX-License-Identifier: GPL-2.0-only
"""Stands in for make, gcc, apt-get and others; copied under each of their names."""

# ruff: noqa: T201 - tools print
import os
import subprocess
import sys
import time
from pathlib import Path

name = Path(sys.argv[0]).name
args = sys.argv[1:]
if "--version" in args and name != "gcc":
    print(f"GNU Make, GNU tar, GNU patch, QEMU: {name}")
    sys.exit(0)
with Path(os.environ["FAKE_RECORD"]).open("a") as record:
    record.write(" ".join([name, *args]) + "\n")
MARKS = (".config", "include/config", "arch/*/include/generated")
mode = os.environ.get("FAKE_MODE", "")
offers = dict(pair.split("=") for pair in os.environ.get("FAKE_OFFERS", "").split())

depends = dict(pair.split("=") for pair in os.environ.get("FAKE_DEPENDS", "").split())


def make() -> int:
    values = dict(arg.split("=", 1) for arg in args if "=" in arg)
    build = Path(values["O"])
    tree = Path(args[args.index("-C") + 1]).resolve()
    refuse(tree)
    if {"allnoconfig", "olddefconfig"} & set(args):
        given = values.get("KCONFIG_ALLCONFIG", build / ".config")
        config = Path(given).read_text()
        dropped = os.environ.get("FAKE_DROPPED", "-")
        lines = [line for line in config.splitlines() if not line.startswith(f"{dropped}=")]
        (build / ".config").write_text("\n".join(lines) + "\n")
        return 0
    if mode in {"fail", "fail with path"}:
        print("  CC      drivers/iommu/iommufd/main.o")
        where = f"{tree}/" if mode == "fail with path" else ""
        print(f"{where}drivers/iommu/iommufd/main.c:7:1: error: expected ';' before 'static'")
        print("\n".join(f"  CC      other{number}.o" for number in range(60)))
        print("make: *** [Makefile:224: __sub-make] Error 2")
        return 2
    if mode == "killed":
        print("gcc: fatal error: Killed signal terminated program cc1\ncompilation terminated.")
        return 2
    if mode == "full":
        print("fatal error: error writing to main.s: No space left on device")
        return 2
    if mode == "sleep":
        if os.fork() == 0:  # as make's own children are
            time.sleep(60)
            os._exit(0)
        Path(os.environ["FAKE_RECORD"] + ".pid").write_text(str(os.getpgid(0)))
        time.sleep(60)
    if mode == "slow":
        time.sleep(1)
    print("  CC      init/main.o")
    compile_all(tree, build, values.get("CC", ""))
    files = {
        "arch/x86/boot/bzImage": b"\0" * 0x202 + b"HdrS",
        "include/config/kernel.release": b"6.12.1-fake\n",
        "drivers/iommu/iommufd/iommufd.mod": b"drivers/iommu/iommufd/hwpt.o\n",
        "modules.order": b"lib/tree.o\ndrivers/iommu/iommufd/iommufd.o\n",
        "lib/tree.ko": Path(os.environ["FAKE_MODULES"], "tree.ko").read_bytes(),
        "drivers/iommu/iommufd/iommufd.ko": Path(
            os.environ["FAKE_MODULES"], "iommufd.ko"
        ).read_bytes(),
    }
    for path, content in files.items():
        (build / path).parent.mkdir(parents=True, exist_ok=True)
        (build / path).write_bytes(content)
    return 0


def refuse(tree: Path) -> None:
    """As the kernel's own Makefile does."""
    if len(str(tree).replace(":", " ").split()) > 1:
        print("Makefile:188: *** source directory cannot contain spaces or colons.  Stop.")
        sys.exit(2)
    if any(next(tree.glob(mark), None) for mark in MARKS):
        print("*** The source tree is not clean, please run 'make mrproper'")
        sys.exit(2)


def compile_all(tree: Path, build: Path, compiler: str) -> None:
    """As kbuild does: what is older than its source, or was made with another command."""
    for source in sorted(tree.rglob("*.c")):
        made = build / source.relative_to(tree).with_suffix(".o")
        command = made.with_name(f".{made.name}.cmd")
        text = f"cc -I{tree}/include -o {made.name} {source}\n"
        old = not made.exists() or made.stat().st_mtime_ns < source.stat().st_mtime_ns
        if old or command.read_text() != text:
            print(f"  CC      {made.relative_to(build)}")
            if compiler:
                subprocess.run([compiler, "-c", source], check=True)
            made.parent.mkdir(parents=True, exist_ok=True)
            made.write_bytes(source.read_bytes())
            command.write_text(text)


def patch() -> int:
    Path(os.environ["FAKE_RECORD"] + ".pid").write_text(str(os.getpgid(0)))
    time.sleep(60)
    return 0


def gcc() -> int:
    if "--version" in args:
        print("gcc (Fake) 1.2.3")
    elif os.environ.get("FAKE_NO_LIBELF") and "-E" in args:
        return 1
    return 0


def apt_cache() -> int:
    private = bool(os.environ.get("APT_CONFIG"))
    known = offers if private or not os.environ.get("FAKE_PRIVATE_ONLY") else {}
    if "showsrc" in args:
        for version in ("6.12.9-1", "7.1.13-1", "7.1.13-1~bpo13+1"):
            print(f"Package: linux\nVersion: {version}\n")
    elif "show" in args:
        print(f"Depends: kmod, {depends.get(args[-1], 'dracut | initramfs-tools (>= 0.120)')}")
        if version := known.get(args[-1].removeprefix("linux-source-")):
            print(f"Package: {args[-1]}\nVersion: {version}\n")
    elif "policy" in args:
        version = known.get(args[-1].removeprefix("linux-source-"), "(none)")
        print(f"{args[-1]}:\n  Installed: (none)\n  Candidate: {version}")
    else:
        print("\n".join(name if "-" in name else f"linux-source-{name}" for name in known))
        print("linux-source-all")
    return 0


def apt_get() -> int:
    if "download" in args:
        private = bool(os.environ.get("APT_CONFIG"))
        if mode == "no-download" or (mode == "stale" and not private):
            print("E: Failed to fetch: 404  Not Found")
            return 100
        for package in args[args.index("download") + 1 :]:
            Path(f"{package.partition('=')[0]}.deb").write_bytes(b"deb")
    if "source" in args and args[-1] == "linux=7.1.13-1":
        print("E: Failed to fetch: 404  Not Found")
        return 100
    if "source" in args:
        Path("linux_7.1.13.orig.tar.xz").write_bytes(b"xz")
    if "install" in args:
        (Path(sys.argv[0]).parent / args[-1]).symlink_to(sys.argv[0])
    return 0


def dpkg_deb() -> int:
    source = Path(args[-1]) / "usr/src"
    source.mkdir(parents=True)
    (source / "linux-source-6.12.tar.xz").write_bytes(b"xz")
    return 0


def tar() -> int:
    if mode == "full":
        print("tar: Makefile: Cannot write: No space left on device")
        return 2
    tree = Path(args[args.index("-C") + 1])
    (tree / "Makefile").write_text("VERSION = 6\n")
    (tree / "Kconfig").write_text("config IOMMUFD\n")
    for name in ("amd/amd.c", "iommufd/hwpt.c"):
        (tree / "drivers/iommu" / name).parent.mkdir(parents=True)
        (tree / "drivers/iommu" / name).write_text("".join(f"line {n}\n" for n in range(40)))
    return 0


sys.exit(globals().get(name.replace("-", "_"), lambda: 0)())
