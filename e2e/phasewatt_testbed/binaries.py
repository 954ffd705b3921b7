"""Cluster programs built from the pinned Go modules in `e2e/tools`, cached by the hash of all that shapes them.

`ensure("kube")` gives one multi-call binary that is kube-apiserver, kube-controller-manager, kube-scheduler, kubelet,
kube-proxy and kubectl, by its first argument or by the name it is called under; `ensure("kubectl")` and the like give
those names.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock

from phasewatt_testbed.digest import digest_of, files_under
from phasewatt_testbed.errors import TestbedError
from phasewatt_testbed.gotools import go_command, go_version
from phasewatt_testbed.paths import E2E, cache_dir
from phasewatt_testbed.progress import step
from phasewatt_testbed.shell import run

TOOLS = E2E / "tools"
KUBERNETES_VERSION = "v1.36.3"
CONTAINERD_VERSION = "v2.3.7"
HELM_VERSION = "v4.3.1"


@dataclass(frozen=True)
class Binary:
    """How to build one program: its module below `e2e/tools`, the package, what departs from plain `go build`."""

    module: str
    package: str
    variables: dict[str, str] = field(default_factory=dict)
    tags: str = ""
    aliases: tuple[str, ...] = ()
    duration: str = "about 1 min from cold"

    @property
    def flags(self) -> list[str]:
        """Arguments of `go build`: static, without paths, version strings set as upstream's release builds set them."""
        stamps = [f"-X {name}={value}" for name, value in self.variables.items()]
        tags = ["-tags", self.tags] if self.tags else []
        return ["-mod=readonly", "-buildvcs=false", "-trimpath", *tags, "-ldflags", " ".join(["-s", "-w", *stamps])]


def _kubernetes_stamps() -> dict[str, str]:
    major, minor, _ = KUBERNETES_VERSION.removeprefix("v").split(".")
    values = {"gitVersion": KUBERNETES_VERSION, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return {f"{package}.{key}": value for package in packages for key, value in values.items()}


def _containerd(command: str) -> Binary:
    repository = "github.com/containerd/containerd/v2"
    return Binary(
        module="containerd",
        package=f"{repository}/cmd/{command}",
        variables={f"{repository}/version.Version": CONTAINERD_VERSION},
        tags="no_btrfs,no_zfs,no_aufs,no_devmapper",
    )


BINARIES: dict[str, Binary] = {
    "kube": Binary(
        module="kubernetes",
        package="./kube",
        variables=_kubernetes_stamps(),
        aliases=("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"),
        duration="about 5 min from cold",
    ),
    "kubeadm": Binary(module="kubernetes", package="./kubeadm", variables=_kubernetes_stamps()),
    "etcd": Binary(module="kubernetes", package="./etcd"),
    "coredns": Binary(module="coredns", package=".", tags="grpcnotrace"),
    "containerd": _containerd("containerd"),
    "containerd-shim-runc-v2": _containerd("containerd-shim-runc-v2"),
    "ctr": _containerd("ctr"),
    "kind": Binary(module="kind", package="sigs.k8s.io/kind"),
    "helm": Binary(
        module="helm",
        package="helm.sh/helm/v4/cmd/helm",
        variables={"helm.sh/helm/v4/internal/version.version": HELM_VERSION},
        duration="about 2 min from cold",
    ),
    "kubeconform": Binary(module="kubeconform", package="github.com/yannh/kubeconform/cmd/kubeconform"),
    # Debian's package has every service discovery but the one for Kubernetes; this has that one alone.
    "prometheus": Binary(
        module="prometheus",
        package="github.com/prometheus/prometheus/cmd/prometheus",
        tags="remove_all_sd,enable_kubernetes_sd",
        duration="about 4 min from cold",
    ),
    "kwok": Binary(module="kwok", package="sigs.k8s.io/kwok/cmd/kwok", duration="about 2 min from cold"),
}


def ensure(name: str) -> Path:
    """Return the path of a program, building it first when its inputs have changed.

    Args:
        name: a key of `BINARIES`, or an alias such as `kubectl`.

    Raises:
        TestbedError: no such program, no usable Go, or the build failed.
    """
    owner = _owner(name)
    binary = BINARIES[owner]
    home = cache_dir() / "bin" / owner
    wanted = home / key(owner)
    if not (wanted / name).exists():
        home.mkdir(parents=True, exist_ok=True)
        with FileLock(home / ".lock"):
            if not (wanted / name).exists():
                with step(f"go build {owner}", hint=binary.duration):
                    _build(owner, binary, wanted)
                _prune(home, keep=wanted)
    return wanted / name


def key(name: str) -> str:
    """The cache key of a program: module files, sources, flags, Go version and platform."""
    binary = BINARIES[name]
    module = TOOLS / binary.module
    facts = [binary.package, *binary.flags, *binary.aliases, go_version(module)]
    return digest_of(facts, files_under(module), module)


def _owner(name: str) -> str:
    for owner, binary in BINARIES.items():
        if name == owner or name in binary.aliases:
            return owner
    raise TestbedError(f"no program named {name!r}; there are {', '.join(BINARIES)}")


def _build(name: str, binary: Binary, target: Path) -> None:
    # Built beside its final place and renamed, so that a killed build is never taken for a finished one.
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"}
    command = [go_command(), "build", *binary.flags, "-o", unfinished / name, binary.package]
    try:
        run(command, cwd=TOOLS / binary.module, env=environment)
        for alias in binary.aliases:
            (unfinished / alias).symlink_to(name)
        unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _prune(home: Path, keep: Path) -> None:
    for entry in home.iterdir():
        if entry.is_dir() and entry != keep:
            shutil.rmtree(entry, ignore_errors=True)
