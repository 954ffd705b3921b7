"""Removes a cluster so that nothing of it is left, whatever state a crash, a kill or a failed start left it in."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
from collections.abc import Iterable
from pathlib import Path

from filelock import Timeout

from phasewatt_testbed import orphan, podman
from phasewatt_testbed.engine import Engine
from phasewatt_testbed.errors import TestbedError
from phasewatt_testbed.nodeimage import BUILD_CONTAINER
from phasewatt_testbed.paths import ClusterPaths, build_lock, scratch_dir
from phasewatt_testbed.shell import run

CGROUPS = Path("/sys/fs/cgroup")
"""One folder per hierarchy (cgroup v1); podman without systemd keeps its groups in the `libpod_parent` of each."""

CLUSTER_LABEL = "io.x-k8s.kind.cluster"
"""kind's own label on node containers (kind pkg/cluster/internal/providers/podman/constants.go)."""


def network_name(cluster: str) -> str:
    """Each cluster has a network of its own, so that removing it cannot disturb another."""
    return f"phasewatt-{cluster}"


def containers(engine: Engine, cluster: str) -> list[str]:
    """Names of the node containers of a cluster, running or not."""
    return engine("ps", "-a", "--filter", f"label={CLUSTER_LABEL}={cluster}", "--format", "{{.Names}}").split()


def remove_cluster(engine: Engine, cluster: str) -> list[str]:
    """Remove containers, volumes, network, processes and files of a cluster; returns what was found, by name.

    Calling it for a cluster that does not exist is no error.
    """
    paths = ClusterPaths(cluster)
    removed = ["an unfinished kind process"] if orphan.end_recorded(paths.kind_record) else []
    nodes = containers(engine, cluster)
    if nodes:
        ids = engine("inspect", "--format", "{{.Id}}", *nodes).split()
        _remove_containers(engine, nodes)
        # podman forgets the groups of a node whose processes were killed.
        remove_cgroups(group for each in ids for group in CGROUPS.glob(f"*/libpod_parent/libpod-{each}"))
    if engine.name == "podman" and (volumes := _volumes(engine, cluster)):
        engine("volume", "rm", "-f", *volumes)
        removed += [f"volume {name[:12]}" for name in volumes]
    network = network_name(cluster)
    if network in engine("network", "ls", "--format", "{{.Name}}").split():
        engine("network", "rm", network)
        removed.append(f"network {network}")
    shutil.rmtree(paths.root, ignore_errors=True)
    return [*nodes, *removed, *(sweep(engine) if engine.name == "podman" else [])]


def _remove_containers(engine: Engine, nodes: list[str]) -> None:
    """Remove containers, also those whose supervisor (conmon) was killed with them.

    podman 4 learns of such a death only by waiting in vain for conmon's exit file: it then fails, but writes down that
    the container does not run, so that the same request succeeds when it is made again.
    """
    try:
        engine("rm", "-f", "-v", *nodes)
    except TestbedError as error:
        if "exits/" not in str(error):
            raise
        engine("rm", "-f", "-v", *nodes)


def _volumes(engine: Engine, cluster: str) -> list[str]:
    # kind labels a node's volume with the node's name; an interrupted creation leaves volumes without their node.
    node = re.compile(rf"{re.escape(cluster)}-(control-plane|worker)\d*")
    volumes = json.loads(engine("volume", "ls", "--format", "json"))
    return [each["Name"] for each in volumes if any(node.fullmatch(label) for label in each.get("Labels") or {})]


def sweep(engine: Engine) -> list[str]:
    """When no testbed is left and nothing is being built: end helpers, unmount, remove run-time state and cgroups."""
    lock = build_lock()
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return []
    with lock:
        if BUILD_CONTAINER in engine("ps", "-a", "--format", "{{.Names}}").split():
            engine("rm", "-f", "-v", BUILD_CONTAINER)
        if engine("ps", "-a", "-q").split():
            return []
        removed = [f"process {pid}" for pid in _end_helpers()]
        removed += [f"mount {mount}" for mount in _unmount_all()]
        podman.forget_runtime_state()
        shutil.rmtree(scratch_dir(), ignore_errors=True)
        return removed + [f"cgroup {path}" for path in remove_cgroups(CGROUPS.glob("*/libpod_parent"))]


def _end_helpers() -> list[int]:
    """End conmon and aardvark-dns processes that carry our run-time folder in their command lines."""
    mark = str(podman.runtime_dir()).encode()
    ended = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            program = (entry / "exe").readlink().name
            if program in ("conmon", "aardvark-dns") and mark in (entry / "cmdline").read_bytes():
                os.kill(int(entry.name), signal.SIGKILL)
                ended.append(int(entry.name))
    return ended


def our_mounts(mountinfo: str, folders: list[Path]) -> list[str]:
    """Mount points below any of `folders`, deepest first, in the text of a /proc/PID/mountinfo."""
    points = [line.split()[4].replace("\\040", " ") for line in mountinfo.splitlines()]
    ours = [point for point in points if any(Path(point).is_relative_to(folder) for folder in folders)]
    return sorted(ours, key=len, reverse=True)


def _unmount_all() -> list[str]:
    folders = [podman.home(), podman.runtime_dir(), scratch_dir()]
    mounts = our_mounts(Path("/proc/self/mountinfo").read_text(), folders)
    for mount in mounts:
        with contextlib.suppress(TestbedError):
            run(["umount", "-l", mount])
    return mounts


def remove_cgroups(groups: Iterable[Path]) -> list[Path]:
    """Remove cgroups with all below them, except those that a living process is in; returns what was removed."""
    removed = []
    for group in groups:
        below = sorted((p for p in group.rglob("*") if p.is_dir()), key=lambda p: len(p.parts), reverse=True)
        # Another podman of this machine may share the group; then not even an empty one of its containers may go.
        if not any(_has_processes(each) for each in [*below, group]):
            for each in [*below, group]:
                each.rmdir()
            removed.append(group)
    return removed


def _has_processes(group: Path) -> bool:
    listing = group / "cgroup.procs"
    return listing.exists() and bool(listing.read_text().strip())
