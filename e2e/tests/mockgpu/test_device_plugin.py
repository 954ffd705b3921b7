from __future__ import annotations

from typing import Any

import grpc
import pytest
import yaml
from phasewatt_mockgpu.health import mark
from phasewatt_mockgpu.inventory import Inventory, NodeGpus
from phasewatt_mockgpu.plugin import Settings
from phasewatt_mockgpu.proto import deviceplugin_v1beta1_pb2 as pb

from .fake_cluster import NODE, FakeCluster, eventually
from .fake_kubelet import DevicePluginKubelet
from .running import running


@pytest.fixture
def inventory(inventory: dict[str, Any]) -> dict[str, Any]:
    """Three GPUs for the device plugin: one of the first root, two of the second."""
    inventory["default"].update(dra=[0], devicePlugin=[1, 2, 3])
    return inventory


@pytest.fixture
def uuids(inventory: dict[str, Any]) -> list[str]:
    node: NodeGpus = Inventory.model_validate(inventory).for_node(NODE)
    return [gpu.uuid for gpu in node.device_plugin]


def test_round_trip(settings: Settings, cluster: FakeCluster, uuids: list[str]) -> None:
    settings.engine_environment.mkdir()
    (settings.engine_environment / "vllm").touch()
    with DevicePluginKubelet(settings.kubelet_folder) as kubelet, running(settings, cluster):
        assert kubelet.registered.wait(20)
        assert kubelet.request is not None
        assert (kubelet.request.version, kubelet.request.resource_name) == ("v1beta1", "nvidia.com/gpu")
        assert kubelet.request.options.get_preferred_allocation_available
        with kubelet.plugin() as plugin:
            options = plugin.GetDevicePluginOptions(pb.Empty(), timeout=5)
            assert (options.get_preferred_allocation_available, options.pre_start_required) == (True, False)

            wish = pb.ContainerPreferredAllocationRequest(available_deviceIDs=uuids, allocation_size=2)
            preferred = plugin.GetPreferredAllocation(
                pb.PreferredAllocationRequest(container_requests=[wish]), timeout=5
            )
            assert list(preferred.container_responses[0].deviceIDs) == uuids[1:]

            wish = pb.ContainerAllocateRequest(devices_ids=uuids[1:])
            allocated = plugin.Allocate(pb.AllocateRequest(container_requests=[wish]), timeout=5).container_responses[0]
            assert dict(allocated.envs) == {"NVIDIA_VISIBLE_DEVICES": ",".join(uuids[1:])}
            folder = str(settings.engine_environment)
            assert [(m.host_path, m.container_path, m.read_only) for m in allocated.mounts] == [(folder, folder, True)]

            unknown = pb.ContainerAllocateRequest(devices_ids=["GPU-of-the-other-allocator"])
            with pytest.raises(grpc.RpcError) as refusal:
                plugin.Allocate(pb.AllocateRequest(container_requests=[unknown]), timeout=5)
            assert refusal.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_list_and_watch_tells_health(settings: Settings, cluster: FakeCluster, uuids: list[str]) -> None:
    with DevicePluginKubelet(settings.kubelet_folder) as kubelet, running(settings, cluster):
        assert kubelet.registered.wait(20)
        with kubelet.plugin() as plugin:
            stream = plugin.ListAndWatch(pb.Empty(), timeout=30)
            assert [(d.ID, d.health) for d in next(stream).devices] == [(uuid, "Healthy") for uuid in uuids]
            mark(settings.health_file, "gpu-2", "Xid 79")
            assert [d.health for d in next(stream).devices] == ["Healthy", "Unhealthy", "Healthy"]
            mark(settings.health_file, "gpu-2", None)
            assert [d.health for d in next(stream).devices] == ["Healthy"] * 3
            stream.cancel()


def test_a_restarted_kubelet_gets_the_plugin_again(settings: Settings, cluster: FakeCluster) -> None:
    with running(settings, cluster):
        for _ in range(2):
            with DevicePluginKubelet(settings.kubelet_folder) as kubelet:
                assert kubelet.registered.wait(20)
                with kubelet.plugin() as plugin:
                    stream = plugin.ListAndWatch(pb.Empty(), timeout=30)
                    assert len(next(stream).devices) == 3
                    stream.cancel()
    assert list((settings.kubelet_folder / "device-plugins").iterdir()) == []


def test_a_removed_plugin_socket_is_served_again(settings: Settings, cluster: FakeCluster) -> None:
    with DevicePluginKubelet(settings.kubelet_folder) as kubelet, running(settings, cluster):
        assert kubelet.registered.wait(20)
        kubelet.registered.clear()
        socket = kubelet.folder / "phasewatt-mock-gpu.sock"
        socket.unlink()
        assert kubelet.registered.wait(20)
        eventually(socket.is_socket)


def test_no_share_no_plugin(settings: Settings, cluster: FakeCluster, inventory: dict[str, Any]) -> None:
    inventory["default"].update(dra=[0], devicePlugin=[])
    settings.inventory.write_text(yaml.safe_dump(inventory))
    with DevicePluginKubelet(settings.kubelet_folder) as kubelet, running(settings, cluster):
        eventually(lambda: cluster.slices)
        assert not (kubelet.folder / "phasewatt-mock-gpu.sock").exists()
    assert not kubelet.registered.is_set()
