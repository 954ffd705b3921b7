"""The whole plugin over real sockets: only kubelet's and the API server's programs are replaced."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import yaml
from phasewatt_mockgpu.dra import SERVICES
from phasewatt_mockgpu.health import mark
from phasewatt_mockgpu.inventory import NodeGpus
from phasewatt_mockgpu.plugin import NodePlugin, Settings

from .fake_cluster import FakeCluster, eventually
from .fake_kubelet import DraKubelet
from .running import REGISTRATION, running


def cdi_files(settings: Settings) -> dict[str, dict[str, Any]]:
    return {path.name: json.loads(path.read_text()) for path in settings.cdi_folder.glob("*.json")}


def test_registers_publishes_and_leaves_no_socket(settings: Settings, cluster: FakeCluster) -> None:
    with running(settings, cluster) as kubelet:
        assert (kubelet.info.type, kubelet.info.name) == ("DRAPlugin", "gpu.nvidia.com")
        assert tuple(kubelet.info.supported_versions) == SERVICES
        eventually(lambda: cluster.slices)
    assert cluster.writes == ["create"]
    assert list(settings.kubelet_folder.rglob("*.sock")) == []


def test_prepare_and_unprepare_round_trip(settings: Settings, cluster: FakeCluster, node: NodeGpus) -> None:
    cluster.allocate("chat", "u1", ("prefill-0", "gpu-0"), ("decode-0", "gpu-1"))
    settings.engine_environment.mkdir()
    (settings.engine_environment / "vllm").touch()
    with running(settings, cluster) as kubelet:
        answer = kubelet.prepare(("chat", "u1"))["u1"]
        assert answer.error == ""
        assert [(list(d.request_names), d.pool_name, d.device_name) for d in answer.devices] == [
            (["prefill-0"], "worker-1", "gpu-0"),
            (["decode-0"], "worker-1", "gpu-1"),
        ]
        spec = cdi_files(settings)["mock.phasewatt.io-gpu_u1.json"]
        offered = {f"{spec['kind']}={device['name']}" for device in spec["devices"]}
        assert {i for d in answer.devices for i in d.cdi_device_ids} == offered
        assert spec["devices"][0]["containerEdits"]["env"] == [f"MOCK_GPU_PREFILL_0={node.dra[0].uuid}"]
        assert spec["containerEdits"]["mounts"][0]["containerPath"] == str(settings.engine_environment)

        assert kubelet.prepare(("chat", "u1"))["u1"] == answer, "kubelet repeats calls"
        for _ in range(2):
            assert kubelet.unprepare(("chat", "u1"))["u1"].error == ""
            assert cdi_files(settings) == {}


def test_one_bad_claim_does_not_spoil_the_call(settings: Settings, cluster: FakeCluster) -> None:
    cluster.allocate("good", "u1", ("r", "gpu-0"))
    cluster.allocate("taken", "u2", ("r", "gpu-0"))
    cluster.allocate("reborn", "u3", ("r", "gpu-1"))
    with running(settings, cluster) as kubelet:
        answer = kubelet.prepare(("good", "u1"), ("taken", "u2"), ("reborn", "older-uid"), ("gone", "u4"))
        assert answer["u1"].error == ""
        assert "gpu-0 is still prepared for claim default/good" in answer["u2"].error
        assert "does not exist any more" in answer["older-uid"].error
        assert "does not exist any more" in answer["u4"].error
        kubelet.unprepare(("good", "u1"))
        assert kubelet.prepare(("taken", "u2"))["u2"].error == ""


def test_an_unreachable_api_server_is_an_error_of_the_claim(settings: Settings, cluster: FakeCluster) -> None:
    cluster.allocate("chat", "u1", ("r", "gpu-0"))
    with running(settings, cluster) as kubelet:
        cluster.unreachable = True
        assert "unreachable" in kubelet.prepare(("chat", "u1"))["u1"].error
        cluster.unreachable = False
        assert kubelet.prepare(("chat", "u1"))["u1"].error == ""


@pytest.mark.parametrize("reboot", [False, True], ids=["restart", "reboot"])
def test_a_successor_knows_what_was_prepared(settings: Settings, cluster: FakeCluster, reboot: bool) -> None:
    cluster.allocate("lives", "u1", ("r", "gpu-0"))
    cluster.allocate("ends", "u2", ("r", "gpu-1"))
    with running(settings, cluster) as kubelet:
        before = kubelet.prepare(("lives", "u1"), ("ends", "u2"))
    assert len(cdi_files(settings)) == 2, "SIGTERM must not unprepare: the pods still run"

    del cluster.claims["default", "ends"]
    del cluster.claims["default", "lives"]["status"]
    if reboot:
        for path in settings.cdi_folder.iterdir():
            path.unlink()
    with running(settings, cluster) as kubelet:
        assert list(cdi_files(settings)) == ["mock.phasewatt.io-gpu_u1.json"]
        assert kubelet.prepare(("lives", "u1"))["u1"] == before["u1"]
        cluster.allocate("next", "u3", ("r", "gpu-1"))
        assert kubelet.prepare(("next", "u3"))["u3"].error == ""
        assert kubelet.unprepare(("lives", "u1"))["u1"].error == ""
        assert list(cdi_files(settings)) == ["mock.phasewatt.io-gpu_u3.json"]


def test_recovery_without_the_api_server_gives_nothing_away(settings: Settings, cluster: FakeCluster) -> None:
    cluster.allocate("chat", "u1", ("r", "gpu-0"))
    with running(settings, cluster) as kubelet:
        kubelet.prepare(("chat", "u1"))
    cluster.unreachable = True
    with running(settings, cluster) as kubelet:
        assert kubelet.prepare(("chat", "u1"))["u1"].error == ""
        cluster.unreachable = False
        eventually(lambda: cluster.slices)


def test_stale_sockets_of_a_killed_predecessor_are_replaced(settings: Settings, cluster: FakeCluster) -> None:
    for name in (REGISTRATION, "plugins/gpu.nvidia.com/dra.sock"):
        path = settings.kubelet_folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(NodePlugin(settings, cluster).run, stop)
        eventually(lambda: (settings.kubelet_folder / REGISTRATION).is_socket())
        assert DraKubelet(settings.kubelet_folder / REGISTRATION).prepare() == {}
        stop.set()
        done.result(timeout=30)


def test_a_slice_that_kubelet_wipes_comes_back(settings: Settings, cluster: FakeCluster) -> None:
    with running(settings, cluster):
        eventually(lambda: cluster.slices)
        cluster.delete_slice("worker-1-gpu.nvidia.com")
        eventually(lambda: cluster.slices)
    assert cluster.writes == ["create", "delete", "create"]


def test_health_reaches_scheduler_and_kubelet(settings: Settings, cluster: FakeCluster) -> None:
    with running(settings, cluster) as kubelet, kubelet.health() as stream:
        first = next(stream)
        assert [(d.device.device_name, d.health) for d in first.devices] == [(f"gpu-{i}", 1) for i in range(4)]
        mark(settings.health_file, "gpu-2", "Xid 79", evict=True)
        second = next(stream)
        assert [(d.health, d.message) for d in second.devices][2] == (2, "Xid 79")
        eventually(lambda: "taints" in cluster.slices["worker-1-gpu.nvidia.com"]["spec"]["devices"][2])
        mark(settings.health_file, "gpu-2", None)
        assert {d.health for d in next(stream).devices} == {1}
        eventually(lambda: "taints" not in cluster.slices["worker-1-gpu.nvidia.com"]["spec"]["devices"][2])
    assert cluster.slices["worker-1-gpu.nvidia.com"]["spec"]["pool"]["generation"] == 3


def test_a_new_inventory_ends_the_process_and_a_bad_one_does_not(
    settings: Settings, cluster: FakeCluster, inventory: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(NodePlugin(settings, cluster).run, threading.Event())
        eventually(lambda: cluster.slices)
        settings.inventory.write_text("default: [")
        eventually(lambda: "new inventory ignored" in caplog.text)
        assert not done.done()
        inventory["default"]["dra"] = [0]
        settings.inventory.write_text(yaml.safe_dump(inventory))
        done.result(timeout=30)
    with running(settings, cluster):
        eventually(lambda: cluster.slices["worker-1-gpu.nvidia.com"]["spec"]["pool"]["generation"] == 2)
    assert len(cluster.slices["worker-1-gpu.nvidia.com"]["spec"]["devices"]) == 1


def test_probes_tell_a_lost_socket(settings: Settings, cluster: FakeCluster, free_port: int) -> None:
    def probe(path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{free_port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    cluster.unreachable = True
    with running(replace(settings, probe_port=free_port), cluster):
        assert probe("/healthz") == (200, "ok\n")
        assert probe("/readyz") == (503, "the ResourceSlice is not published yet\n")
        cluster.unreachable = False
        eventually(lambda: probe("/readyz") == (200, "ok\n"))
        (settings.kubelet_folder / "plugins/gpu.nvidia.com/dra.sock").unlink()
        status, text = probe("/healthz")
        assert status == 503
        assert "dra.sock does not answer: UNAVAILABLE" in text
        assert probe("/elsewhere")[0] == 404
