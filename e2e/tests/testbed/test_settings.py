"""Machine-specific settings appear exactly where the machine needs them."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from phasewatt_testbed import podman
from phasewatt_testbed.existing import node_problem
from phasewatt_testbed.host import CAP_SYS_RESOURCE, Host, has_capability, this_host
from phasewatt_testbed.kindconfig import ENGINE_MOUNT, kind_config
from phasewatt_testbed.nodes import Node

USUAL = Host(root=True, systemd=True, cgroup_v2=True, may_raise_limits=True, open_files=1024, processes=4096)


def parsed_containers_conf(**changes: Any) -> dict[str, Any]:
    return tomllib.loads(podman.containers_conf(dataclasses.replace(USUAL, **changes)))


def kubelet_patch(host: Host) -> dict[str, Any]:
    (patch,) = kind_config(host, 1, Path("/cache/opt"))["kubeadmConfigPatches"]
    return dict(yaml.safe_load(patch))


def test_a_usual_host_keeps_the_defaults() -> None:
    conf = parsed_containers_conf()
    assert "runtime" not in conf["engine"]
    assert "cgroup_manager" not in conf["engine"]
    assert "default_ulimits" not in conf["containers"]
    assert "failCgroupV1" not in kubelet_patch(USUAL)
    assert kind_config(USUAL, 1, Path("/cache/opt"))["containerdConfigPatches"] == []


def test_cgroup_v1_needs_runc_and_a_kubelet_that_accepts_it() -> None:
    assert parsed_containers_conf(cgroup_v2=False)["engine"]["runtime"] == "runc"
    assert kubelet_patch(dataclasses.replace(USUAL, cgroup_v2=False))["failCgroupV1"] is False


def test_without_systemd_cgroups_are_managed_directly() -> None:
    assert parsed_containers_conf(systemd=False)["engine"]["cgroup_manager"] == "cgroupfs"


def test_without_sys_resource_limits_stay_at_the_hard_limits() -> None:
    limits = parsed_containers_conf(may_raise_limits=False)["containers"]["default_ulimits"]
    assert limits == ["nofile=1024:1024", "nproc=4096:4096"]
    (patch,) = kind_config(dataclasses.replace(USUAL, may_raise_limits=False), 1, Path("/x"))["containerdConfigPatches"]
    assert tomllib.loads(patch)["plugins"]["io.containerd.grpc.v1.cri"] == {"restrict_oom_score_adj": True}


def test_all_container_state_lies_in_our_own_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    storage = tomllib.loads(podman.storage_conf())["storage"]
    conf = parsed_containers_conf()
    ours = (podman.home(), podman.runtime_dir())
    places = [storage["graphroot"], storage["runroot"], conf["network"]["network_config_dir"]]
    places += [conf["engine"][key] for key in ("static_dir", "tmp_dir", "volume_path")]
    assert all(any(Path(place).is_relative_to(folder) for folder in ours) for place in places)


def test_each_user_cache_has_its_own_run_time_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a"))
    first = podman.runtime_dir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert podman.runtime_dir() != first


def test_workers_see_the_engine_folder_read_only_and_the_control_plane_does_not() -> None:
    control_plane, *workers = kind_config(USUAL, 2, Path("/cache/opt"))["nodes"]
    assert control_plane == {"role": "control-plane"}
    assert len(workers) == 2
    for worker in workers:
        assert worker["extraMounts"] == [{"hostPath": "/cache/opt", "containerPath": ENGINE_MOUNT, "readOnly": True}]


@pytest.mark.parametrize(
    ("effective", "expected"),
    [("000001ffffffffff", True), ("000001fffeffffff", False), ("0000000000000000", False)],
)
def test_capability_is_read_from_the_effective_set(effective: str, expected: bool) -> None:
    status = f"Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t{effective}\nCapBnd:\t000001ffffffffff\n"
    assert has_capability(status, CAP_SYS_RESOURCE) is expected


def test_measured_limits_can_be_set_by_podman() -> None:
    host = this_host()
    assert 0 < host.open_files <= int(Path("/proc/sys/fs/nr_open").read_text())
    assert 0 < host.processes <= int(Path("/proc/sys/kernel/pid_max").read_text())


@pytest.mark.parametrize(
    ("ready", "runtime", "said"),
    [
        (True, "containerd://2.3.7", ""),
        (True, "cri-o://1.36.0", ""),
        (True, "containerd://v1.7.28", "containerd 2.0 or newer"),
        (True, "containerd://1.6.20~ds1", "containerd 2.0 or newer"),
        (False, "containerd://2.3.7", "not Ready"),
    ],
)
def test_nodes_that_cannot_inject_devices_are_refused(ready: bool, runtime: str, said: str) -> None:
    problem = node_problem(Node("n", ready, False, "v1.36.3", runtime, 0))
    assert said in problem
    assert bool(problem) == bool(said)
