"""Device plugin v1beta1 for the GPUs that the DRA driver does not serve: `nvidia.com/gpu`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc

from phasewatt_mockgpu import RESOURCE_NAME
from phasewatt_mockgpu.dra import until_closed
from phasewatt_mockgpu.health import HealthBoard
from phasewatt_mockgpu.injection import mountable
from phasewatt_mockgpu.inventory import NodeGpu
from phasewatt_mockgpu.preference import preferred_gpus
from phasewatt_mockgpu.proto import deviceplugin_v1beta1_pb2 as pb
from phasewatt_mockgpu.proto import deviceplugin_v1beta1_pb2_grpc as pb_grpc
from phasewatt_mockgpu.sockets import dial, serve, stop_serving

log = logging.getLogger(__name__)
API_VERSION = "v1beta1"
POLL_SECONDS = 1.0
_REGISTER_TIMEOUT_SECONDS = 10.0


class DevicePluginServicer(pb_grpc.DevicePluginServicer):
    """Lists, prefers and allocates GPUs by UUID, as NVIDIA's plugin does with its default device-id strategy."""

    def __init__(self, gpus: Sequence[NodeGpu], health: HealthBoard, engine_environment: Path) -> None:
        self._gpus = {gpu.uuid: gpu for gpu in gpus}
        self._health = health
        self._engine_environment = engine_environment

    def GetDevicePluginOptions(  # noqa: N802 - the names are gRPC's
        self, request: pb.Empty, context: grpc.ServicerContext
    ) -> pb.DevicePluginOptions:
        return pb.DevicePluginOptions(get_preferred_allocation_available=True)

    def ListAndWatch(  # noqa: N802
        self, request: pb.Empty, context: grpc.ServicerContext
    ) -> Iterator[pb.ListAndWatchResponse]:
        for ailments in self._health.changes(until_closed(context, self._health)):
            devices = [
                pb.Device(ID=gpu.uuid, health="Unhealthy" if gpu.name in ailments else "Healthy")
                for gpu in self._gpus.values()
            ]
            yield pb.ListAndWatchResponse(devices=devices)

    def GetPreferredAllocation(  # noqa: N802
        self, request: pb.PreferredAllocationRequest, context: grpc.ServicerContext
    ) -> pb.PreferredAllocationResponse:
        answer = pb.PreferredAllocationResponse()
        for wish in request.container_requests:
            available = self._known(wish.available_deviceIDs, context)
            must_include = self._known(wish.must_include_deviceIDs, context)
            chosen = preferred_gpus(available, must_include, wish.allocation_size)
            answer.container_responses.add(deviceIDs=[gpu.uuid for gpu in chosen])
        return answer

    def Allocate(self, request: pb.AllocateRequest, context: grpc.ServicerContext) -> pb.AllocateResponse:  # noqa: N802
        answer = pb.AllocateResponse()
        for wish in request.container_requests:
            uuids = [gpu.uuid for gpu in self._known(wish.devices_ids, context)]
            container = answer.container_responses.add(envs={"NVIDIA_VISIBLE_DEVICES": ",".join(uuids)})
            if (folder := mountable(self._engine_environment)) is not None:
                container.mounts.add(container_path=str(folder), host_path=str(folder), read_only=True)
            log.info("allocated", extra={"gpus": uuids})
        return answer

    def _known(self, uuids: Sequence[str], context: grpc.ServicerContext) -> list[NodeGpu]:
        unknown = [uuid for uuid in uuids if uuid not in self._gpus]
        if unknown:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"not GPUs of this node's device plugin: {unknown}")
        return [self._gpus[uuid] for uuid in uuids]


class DevicePluginEndpoint:
    """Serves the plugin's socket and keeps it registered.

    A starting kubelet empties the folder, our socket included, and waits to be called
    (https://kubernetes.io/docs/concepts/extend-kubernetes/compute-storage-net/device-plugins/#handling-kubelet-restarts).
    """

    def __init__(self, kubelet_folder: Path, servicer: DevicePluginServicer) -> None:
        folder = kubelet_folder / "device-plugins"
        self.socket = folder / "phasewatt-mock-gpu.sock"
        self._kubelet_socket = folder / "kubelet.sock"
        self._servicer = servicer
        self._server: grpc.Server | None = None
        self._registered_with: tuple[int, int] | None = None

    @property
    def registered(self) -> bool:
        """True when the kubelet that runs now knows this plugin."""
        return self._registered_with is not None and self._registered_with == _identity(self._kubelet_socket)

    def run(self, stop: threading.Event) -> None:
        """Keep the plugin registered until `stop` is set, then remove its socket."""
        while not stop.is_set():
            kubelet = _identity(self._kubelet_socket)
            if kubelet is not None and (kubelet != self._registered_with or not self.socket.exists()):
                self._registered_with = kubelet if self._register() else None
            stop.wait(POLL_SECONDS)
        self._close()

    def _register(self) -> bool:
        self._close()
        self._server = serve(self.socket, lambda s: pb_grpc.add_DevicePluginServicer_to_server(self._servicer, s))
        request = pb.RegisterRequest(
            version=API_VERSION,
            endpoint=self.socket.name,
            resource_name=RESOURCE_NAME,
            options=pb.DevicePluginOptions(get_preferred_allocation_available=True),
        )
        try:
            with dial(self._kubelet_socket) as channel:
                pb_grpc.RegistrationStub(channel).Register(request, timeout=_REGISTER_TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            log.warning("kubelet did not register the device plugin", extra={"error": str(error.code())})
            return False
        log.info("kubelet registered the device plugin", extra={"resource": RESOURCE_NAME})
        return True

    def _close(self) -> None:
        if self._server is not None:
            stop_serving(self._server, self.socket)
            self._server = None


def _identity(socket: Path) -> tuple[int, int] | None:
    # The inode number alone can be used again by the next socket; its change time cannot.
    try:
        status = socket.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_ctime_ns
