"""The Go toolchain that builds the pinned cluster programs."""

from __future__ import annotations

import functools
import os
import re
import shutil
from pathlib import Path

from phasewatt_testbed.errors import TestbedError
from phasewatt_testbed.shell import run

MINIMUM = (1, 26)
"""Kubernetes 1.36 states `go 1.26.0` in its go.mod."""

TOOLCHAIN_SWITCH = (1, 21)
"""From Go 1.21 on, `go` fetches the toolchain that go.mod asks for (https://go.dev/doc/toolchain)."""


@functools.cache
def go_command() -> Path:
    """Find a Go that can build the modules in `e2e/tools`.

    Raises:
        TestbedError: there is none, with how to get one.
    """
    found = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if not found:
        raise TestbedError(_advice("Go is not installed"))
    version = run([found, "env", "GOVERSION"], cwd=Path("/")).strip()
    match = re.match(r"go(\d+)\.(\d+)", version)
    if not match:
        raise TestbedError(_advice(f"{found} has no release version ({version})"))
    number = (int(match[1]), int(match[2]))
    may_switch = number >= TOOLCHAIN_SWITCH and os.environ.get("GOTOOLCHAIN", "auto") != "local"
    if number < MINIMUM and not may_switch:
        raise TestbedError(_advice(f"{found} is {version}"))
    return Path(found)


def go_version(module: Path) -> str:
    """The Go version and platform that will build `module`, as they enter its cache key."""
    return run([go_command(), "env", "GOVERSION", "GOOS", "GOARCH"], cwd=module).replace("\n", " ").strip()


def _advice(problem: str) -> str:
    wanted = ".".join(str(part) for part in MINIMUM)
    return (
        f"{problem}; the testbed builds Kubernetes from source with Go {wanted} or newer: "
        "install it from https://go.dev/dl and put `go` on PATH"
    )
