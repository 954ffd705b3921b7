"""podman with storage, networks and settings of its own in the cache folder; nothing of the host's is touched."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from phasewatt_testbed.digest import digest_of
from phasewatt_testbed.host import Host
from phasewatt_testbed.paths import cache_dir

PACKAGES = {
    "podman": "podman",
    "buildah": "buildah",
    "runc": "runc",
    "netavark": "netavark",
    "aardvark-dns": "aardvark-dns",
    "iptables": "iptables",
    "debootstrap": "debootstrap",
    "gcc": "gcc libc6-dev",
}
"""Commands that the podman backend uses, with the Debian packages that have them."""


def home() -> Path:
    """Container storage and configuration, shared by all testbeds of this user."""
    return cache_dir() / "containers"


def runtime_dir() -> Path:
    """State that must not survive a reboot; on most machines /run is emptied by one, which is how podman notices."""
    base = Path("/run") if os.geteuid() == 0 else Path(os.environ.get("XDG_RUNTIME_DIR", f"/tmp/user-{os.getuid()}"))  # noqa: S108
    return base / f"phasewatt-{digest_of([str(cache_dir())])[:8]}"


def configure(host: Host) -> dict[str, str]:
    """Write the configuration for this machine and return the environment that selects it."""
    folder = home()
    for each in (folder / "store", folder / "networks", runtime_dir()):
        each.mkdir(parents=True, exist_ok=True)
    if host.root:
        # kind's podman provider always mounts /lib/modules, and podman refuses a bind mount of a missing folder.
        Path("/lib/modules").mkdir(exist_ok=True)
    storage, containers = folder / "storage.conf", folder / "containers.conf"
    _write(storage, storage_conf())
    _write(containers, containers_conf(host))
    return {
        "CONTAINERS_STORAGE_CONF": str(storage),
        "CONTAINERS_CONF": str(containers),
        "KIND_EXPERIMENTAL_PROVIDER": "podman",
        "PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin",
    }


def storage_conf() -> str:
    """containers-storage.conf(5)."""
    roots = {"driver": "overlay", "graphroot": home() / "store", "runroot": runtime_dir() / "storage"}
    return _toml("storage", roots)


def containers_conf(host: Host) -> str:
    """containers.conf(5) for a machine; every departure from podman's defaults has its cause beside it."""
    engine: dict[str, object] = {
        "events_logger": "file",
        "static_dir": home() / "store" / "libpod",
        "tmp_dir": runtime_dir() / "libpod",
        "volume_path": home() / "store" / "volumes",
        # Node containers do not react to the stop signal at once; without this each removal waits 10 s.
        "stop_timeout": 1,
    }
    if not host.systemd:
        engine["cgroup_manager"] = "cgroupfs"
    if not host.cgroup_v2:
        # crun refuses such machines: "cgroups in hybrid mode not supported, drop all controllers from cgroupv2".
        engine["runtime"] = "runc"
    # podman's default of 2048 processes is meant for one application, and a node runs hundreds of containers' worth.
    containers: dict[str, object] = {"pids_limit": 0}
    if not host.may_raise_limits:
        # podman's default limits lie above the hard limits here: "setrlimit RLIMIT_NOFILE: Operation not permitted".
        files, processes = host.open_files, host.processes
        containers["default_ulimits"] = [f"nofile={files}:{files}", f"nproc={processes}:{processes}"]
    network = {"network_backend": "netavark", "network_config_dir": home() / "networks"}
    return "\n".join([_toml("engine", engine), _toml("containers", containers), _toml("network", network)])


def forget_runtime_state() -> None:
    """Remove what podman keeps for running containers; only right when no container of ours is left."""
    shutil.rmtree(runtime_dir(), ignore_errors=True)


def _toml(table: str, values: dict[str, object]) -> str:
    # JSON's strings, integers and lists of strings are valid TOML values, and the standard library only reads TOML.
    lines = [f"{key} = {json.dumps(value, default=str)}" for key, value in values.items()]
    return "\n".join([f"[{table}]", *lines, ""])


def _write(path: Path, text: str) -> None:
    # Rewritten only on change, because other testbed processes read it at any moment.
    if not path.exists() or path.read_text() != text:
        unfinished = path.with_suffix(f".{os.getpid()}")
        unfinished.write_text(text)
        unfinished.rename(path)
