"""The container engine behind the nodes: Docker where a daemon answers, otherwise podman with storage of its own."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from phasewatt_testbed import podman
from phasewatt_testbed.errors import TestbedError
from phasewatt_testbed.host import ensure_commands, require_linux, this_host
from phasewatt_testbed.shell import run, succeeds

CHOICE = "PHASEWATT_TESTBED_ENGINE"
REGISTRY = "https://registry-1.docker.io/v2/"
REGISTRY_TIMEOUT = 4.0
"""Seconds; a registry slower than this would make pulls slower than building."""

DEBIAN_BASE = "docker.io/library/debian:bookworm-slim"


@dataclass(frozen=True)
class Engine:
    """One container engine: its command and the environment that every call of it, and of kind, needs."""

    name: str
    environment: dict[str, str] = field(default_factory=dict)

    def __call__(self, *arguments: str | Path, stdin: str | None = None, timeout: float | None = None) -> str:
        """Run an engine command and return its output; raises TestbedError when it fails."""
        return run([self.name, *arguments], env=self.full_environment(), stdin=stdin, timeout=timeout)

    def full_environment(self) -> dict[str, str]:
        """The process environment with this engine's settings on top."""
        return {**os.environ, **self.environment}

    def has_image(self, reference: str) -> bool:
        """Whether an image is in the engine's own store."""
        return succeeds([self.name, "image", "inspect", reference], env=self.full_environment())

    def build(self, tag: str, dockerfile: Path, context: Path, arguments: Sequence[str] = ()) -> None:
        """Build a Dockerfile; raises TestbedError with the end of the build's output when it fails."""
        common = ["-t", tag, "-f", dockerfile, *[f"--build-arg={each}" for each in arguments], context]
        if self.name == "docker":
            run(["docker", "build", *common], env={**self.full_environment(), "DOCKER_BUILDKIT": "1"})
            return
        # chroot isolation needs no cgroup, user namespace or network set-up of its own, so it works in any container.
        pull = "--pull-never" if self.has_image(DEBIAN_BASE) else "--pull"
        run(["buildah", "bud", "--isolation", "chroot", pull, "--layers", *common], env=self.full_environment())

    def save(self, reference: str, archive: Path) -> None:
        """Write an image as an OCI (or docker) archive that containerd imports under the same name."""
        if self.name == "docker":
            self("save", "-o", archive, reference)
        else:
            # zstd takes a third less processor time than the default gzip, here and again in every node.
            target = ["--compression-format", "zstd", reference, f"oci-archive:{archive}:{reference}"]
            run(["buildah", "push", *target], env=self.full_environment())


@functools.cache
def detect() -> Engine:
    """Choose the engine: `PHASEWATT_TESTBED_ENGINE` (docker or podman), else a working Docker daemon, else podman.

    Raises:
        TestbedError: neither can be had on this machine.
    """
    require_linux()
    choice = os.environ.get(CHOICE, "")
    if choice not in ("", "docker", "podman"):
        raise TestbedError(f"{CHOICE} is {choice!r}; it may be docker or podman")
    if choice != "podman" and succeeds(["docker", "info"], timeout=10):
        return Engine("docker")
    if choice == "docker":
        raise TestbedError("no Docker daemon answers `docker info`; start it, or unset " + CHOICE)
    ensure_commands(podman.PACKAGES)
    return Engine("podman", podman.configure(this_host()))


@functools.cache
def registry_answers() -> bool:
    """Whether Docker Hub itself answers quickly (401 asks for a token; other codes come from something in between)."""
    try:
        return httpx.get(REGISTRY, timeout=REGISTRY_TIMEOUT).status_code in (200, 401)
    except httpx.HTTPError:
        return False
