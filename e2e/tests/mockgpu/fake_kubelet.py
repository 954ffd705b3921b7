"""The kubelet's side of both plugin APIs, over real unix sockets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import grpc
from phasewatt_mockgpu.proto import (
    deviceplugin_v1beta1_pb2,
    deviceplugin_v1beta1_pb2_grpc,
    dra_health_v1alpha1_pb2,
    dra_health_v1alpha1_pb2_grpc,
    dra_v1_pb2,
    dra_v1_pb2_grpc,
    pluginregistration_v1_pb2,
    pluginregistration_v1_pb2_grpc,
)
from phasewatt_mockgpu.sockets import dial, serve, stop_serving


class DraKubelet:
    """Finds the driver through its registration socket, as kubelet's plugin watcher does, and talks to its service."""

    def __init__(self, registration_socket: Path) -> None:
        with dial(registration_socket) as channel:
            stub = pluginregistration_v1_pb2_grpc.RegistrationStub(channel)
            self.info = stub.GetInfo(pluginregistration_v1_pb2.InfoRequest(), timeout=5)
            status = pluginregistration_v1_pb2.RegistrationStatus(plugin_registered=True)
            stub.NotifyRegistrationStatus(status, timeout=5)

    def prepare(self, *claims: tuple[str, str]) -> dict[str, dra_v1_pb2.NodePrepareResourceResponse]:
        """Prepare claims of namespace default, each a name and a UID."""
        request = dra_v1_pb2.NodePrepareResourcesRequest(claims=_claims(claims))
        with dial(Path(self.info.endpoint)) as channel:
            return dict(dra_v1_pb2_grpc.DRAPluginStub(channel).NodePrepareResources(request, timeout=5).claims)

    def unprepare(self, *claims: tuple[str, str]) -> dict[str, dra_v1_pb2.NodeUnprepareResourceResponse]:
        request = dra_v1_pb2.NodeUnprepareResourcesRequest(claims=_claims(claims))
        with dial(Path(self.info.endpoint)) as channel:
            return dict(dra_v1_pb2_grpc.DRAPluginStub(channel).NodeUnprepareResources(request, timeout=5).claims)

    @contextmanager
    def health(self) -> Iterator[Iterator[dra_health_v1alpha1_pb2.NodeWatchResourcesResponse]]:
        with dial(Path(self.info.endpoint)) as channel:
            stub = dra_health_v1alpha1_pb2_grpc.DRAResourceHealthStub(channel)
            stream = stub.NodeWatchResources(dra_health_v1alpha1_pb2.NodeWatchResourcesRequest(), timeout=30)
            try:
                yield stream
            finally:
                stream.cancel()


def _claims(claims: tuple[tuple[str, str], ...]) -> list[dra_v1_pb2.Claim]:
    return [dra_v1_pb2.Claim(namespace="default", name=name, uid=uid) for name, uid in claims]


class DevicePluginKubelet(deviceplugin_v1beta1_pb2_grpc.RegistrationServicer):
    """A kubelet that lives as long as its `with` block; at its start it empties the folder, as the real one does."""

    def __init__(self, kubelet_folder: Path) -> None:
        self.folder = kubelet_folder / "device-plugins"
        self.request: deviceplugin_v1beta1_pb2.RegisterRequest | None = None
        self.registered = threading.Event()

    def Register(  # noqa: N802
        self, request: deviceplugin_v1beta1_pb2.RegisterRequest, context: grpc.ServicerContext
    ) -> deviceplugin_v1beta1_pb2.Empty:
        self.request = request
        self.registered.set()
        return deviceplugin_v1beta1_pb2.Empty()

    def __enter__(self) -> DevicePluginKubelet:
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self.folder.iterdir():
            path.unlink()
        self._server = serve(
            self.folder / "kubelet.sock",
            lambda s: deviceplugin_v1beta1_pb2_grpc.add_RegistrationServicer_to_server(self, s),
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stop_serving(self._server, self.folder / "kubelet.sock", grace_seconds=0)

    @contextmanager
    def plugin(self) -> Iterator[deviceplugin_v1beta1_pb2_grpc.DevicePluginStub]:
        """A stub on the socket that the plugin has registered."""
        assert self.request is not None
        with dial(self.folder / self.request.endpoint) as channel:
            yield deviceplugin_v1beta1_pb2_grpc.DevicePluginStub(channel)
