"""What this machine allows: measured, never assumed. A usual Docker host needs none of the special settings."""

from __future__ import annotations

import functools
import os
import resource
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from phasewatt_testbed.errors import TestbedError
from phasewatt_testbed.progress import step
from phasewatt_testbed.shell import run, succeeds

CAP_SYS_RESOURCE = 24
"""Bit number in the capability sets of /proc/self/status (linux/capability.h)."""


@dataclass(frozen=True)
class Host:
    """Facts that decide which settings a container engine and the nodes need here."""

    root: bool
    systemd: bool
    cgroup_v2: bool
    may_raise_limits: bool
    open_files: int
    processes: int


@functools.cache
def this_host() -> Host:
    """Measure the machine that this process runs on."""
    return Host(
        root=os.geteuid() == 0,
        systemd=Path("/run/systemd/system").is_dir(),
        cgroup_v2=Path("/sys/fs/cgroup/cgroup.controllers").exists(),
        may_raise_limits=has_capability(Path("/proc/self/status").read_text(), CAP_SYS_RESOURCE),
        open_files=_hard_limit(resource.RLIMIT_NOFILE, Path("/proc/sys/fs/nr_open")),
        processes=_hard_limit(resource.RLIMIT_NPROC, Path("/proc/sys/kernel/pid_max")),
    )


def has_capability(status: str, bit: int) -> bool:
    """Whether the effective set in the text of a /proc/PID/status holds a capability."""
    for line in status.splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> bit & 1)
    return False


def _hard_limit(limit: int, ceiling: Path) -> int:
    # podman caps what it sets at the kernel's ceiling, so a value above it would not be reached either.
    hard = resource.getrlimit(limit)[1]
    highest = int(ceiling.read_text())
    return highest if hard == resource.RLIM_INFINITY else min(hard, highest)


def ensure_commands(packages: Mapping[str, str]) -> None:
    """Make sure commands exist, installing their Debian packages where apt and root (or passwordless sudo) are there.

    Args:
        packages: command name to the Debian package (or packages, by spaces) that it needs.

    Raises:
        TestbedError: something is missing and cannot be installed here; one line says what to install.
    """
    missing = {command: package for command, package in packages.items() if not _find(command)}
    if not missing:
        return
    names = sorted({name for package in missing.values() for name in package.split()})
    prefix = [] if this_host().root else ["sudo", "-n"]
    may_install = shutil.which("apt-get") and (not prefix or succeeds([*prefix, "true"]))
    if not may_install:
        raise TestbedError(f"missing {', '.join(sorted(missing))}: install {' '.join(names)} with your package manager")
    install = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "--no-install-recommends"]
    with step(f"apt-get install {' '.join(names)}"):
        run([*prefix, "apt-get", "update"])
        run([*install, *names])
    still = [command for command in missing if not _find(command)]
    if still:
        raise TestbedError(f"{', '.join(still)} still missing after installing {' '.join(names)}")


def _find(command: str) -> str | None:
    # Debian keeps runc, iptables and debootstrap in sbin, which is not on every user's PATH.
    sbin = "/usr/local/sbin:/usr/sbin:/sbin:/usr/lib/podman:/usr/libexec/podman"
    return shutil.which(command, path=f"{os.environ.get('PATH', os.defpath)}:{sbin}")


def require_linux() -> None:
    """Refuse other systems early: nodes are Linux containers with bind mounts of this machine."""
    if sys.platform != "linux":
        raise TestbedError(
            "the testbed makes nodes on Linux only; elsewhere give an existing cluster with --kubeconfig"
        )
