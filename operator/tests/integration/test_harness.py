"""The harness itself: what every other integration test takes for granted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from phasewatt_testbed.bare import BareControlPlane
from phasewatt_testbed.errors import TestbedError
from phasewatt_testbed.processes import wait_until


def test_objects_survive_a_restart_of_etcd_and_the_api_server(apiserver: BareControlPlane, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    before = apiserver.http.post(path, json={"metadata": {"name": "kept"}, "data": {"a": "1"}}).json()
    address = apiserver.url

    apiserver.restart()

    assert apiserver.url == address
    assert apiserver.http.get(f"{path}/kept").json() == before


def test_kubectl_reaches_the_api_server_of_the_pinned_version(apiserver: BareControlPlane) -> None:
    versions = json.loads(apiserver.kubectl("version", "-o", "json").stdout)
    assert versions["serverVersion"]["gitVersion"] == versions["clientVersion"]["gitVersion"]


def test_without_controllers_a_deployment_makes_nothing(apiserver: BareControlPlane, namespace: str) -> None:
    apiserver.kubectl("create", "deployment", "idle", "--image=none", "-n", namespace)
    assert apiserver.kubectl("get", "replicasets", "-n", namespace, "-o", "name").stdout == ""


def test_with_controllers_a_deployment_makes_a_replica_set_and_deletion_collects_it(
    controlplane: BareControlPlane, controlplane_namespace: str
) -> None:
    where = ("-n", controlplane_namespace)
    controlplane.kubectl("create", "deployment", "idle", "--image=none", *where)
    controlplane.kubectl("wait", "--for=create", "pod", "-l", "app=idle", "--timeout=60s", *where)

    controlplane.kubectl("delete", "deployment", "idle", "--cascade=foreground", "--timeout=60s", *where)

    assert controlplane.kubectl("get", "replicasets,pods", "-o", "name", *where).stdout == ""


def test_a_program_that_cannot_start_says_why_and_leaves_nothing_behind(tmp_path: Path) -> None:
    plane = BareControlPlane(tmp_path, extra_args={"kube-apiserver": ["--no-such-flag"]})
    with pytest.raises(TestbedError, match="kube-apiserver ended while it started") as failure:
        plane.start()
    assert "unknown flag: --no-such-flag" in str(failure.value)
    assert [server.name for server in plane.servers if server.running] == []


STARTER = """
import sys, time, pathlib
from phasewatt_testbed.processes import Server
server = Server("sleeper", ["sleep", "600"], log=pathlib.Path(sys.argv[1]), ready=lambda: True)
server.start()
print(server.pid, flush=True)
time.sleep(600)
"""


def test_servers_end_with_a_starter_that_was_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STARTER, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        stat = Path("/proc", starter.stdout.readline().strip(), "stat")
        assert stat.exists()
        starter.kill()
    wait_until(lambda: has_ended(stat), 10, "the server still runs")


def has_ended(stat: Path) -> bool:
    try:
        return ") Z " in stat.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
