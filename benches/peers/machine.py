"""What the figures were measured on, and with."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

PACKAGES = ["numpy", "zstandard", "backports.zstd", "pcodec", "openzl", "blosc2", "lmzip", "z4ai", "zipnn"]


def one_cpu() -> None:
    """Keeps this process and its children on one processor, so that nobody has two."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def describe() -> dict[str, str]:
    """The machine and the versions, by what they are of."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": _memory(),
        "system": f"{platform.system()} {platform.release().split('-')[0]}, {platform.machine()}",
        "rustc": _output(["rustc", "--version"]).removeprefix("rustc "),
        "Python": platform.python_version(),
        "shard": _output(["git", "describe", "--always", "--dirty"]),
    }


def versions() -> dict[str, str]:
    """The installed version of each package."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    try:
        from backports import zstd
    except ImportError:
        return found
    # As bundled with the package.
    return found | {"zstd in backports.zstd": zstd.zstd_version}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    fields: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    name = fields.get("model name", platform.machine())
    if "cpu family" in fields:
        name += f" (family {fields['cpu family']}, model {fields['model']})"
    return name


def _memory() -> str:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return "unknown"
    return f"{total / (1 << 30):.0f} GiB"


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
