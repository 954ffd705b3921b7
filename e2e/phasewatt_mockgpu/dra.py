"""gRPC face of the DRA driver: kubelet's plugin registration, DRAPlugin v1 and device health v1alpha1."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc

from phasewatt_mockgpu import DRIVER_NAME
from phasewatt_mockgpu.claims import ClaimError, PreparedClaim
from phasewatt_mockgpu.clusterapi import CLUSTER_ERRORS
from phasewatt_mockgpu.health import Ailments, HealthBoard
from phasewatt_mockgpu.injection import cdi_device_id
from phasewatt_mockgpu.inventory import NodeGpus
from phasewatt_mockgpu.preparation import ClaimPreparer
from phasewatt_mockgpu.proto import (
    dra_health_v1alpha1_pb2,
    dra_health_v1alpha1_pb2_grpc,
    dra_v1_pb2,
    dra_v1_pb2_grpc,
    pluginregistration_v1_pb2,
    pluginregistration_v1_pb2_grpc,
)
from phasewatt_mockgpu.sockets import serve, stop_serving

log = logging.getLogger(__name__)
SERVICES = ("v1.DRAPlugin", "v1alpha1.DRAResourceHealth")
"""What GetInfo announces, as k8s.io/dynamic-resource-allocation kubeletplugin does: version and service name."""


class DraServicer(dra_v1_pb2_grpc.DRAPluginServicer):
    """DRAPlugin v1. A claim that fails carries its error in the answer; the others of the call are unaffected."""

    def __init__(self, node: NodeGpus, preparer: ClaimPreparer) -> None:
        self._node = node
        self._preparer = preparer

    def NodePrepareResources(  # noqa: N802 - the name is gRPC's
        self, request: dra_v1_pb2.NodePrepareResourcesRequest, context: grpc.ServicerContext
    ) -> dra_v1_pb2.NodePrepareResourcesResponse:
        answer = dra_v1_pb2.NodePrepareResourcesResponse()
        for claim in request.claims:
            try:
                prepared = self._preparer.prepare(claim.namespace, claim.name, claim.uid)
            except (ClaimError, OSError, *CLUSTER_ERRORS) as error:
                log.error("claim not prepared", extra={"claim": f"{claim.namespace}/{claim.name}", "error": str(error)})
                answer.claims[claim.uid].error = str(error)
            else:
                answer.claims[claim.uid].devices.extend(self._devices(prepared))
        return answer

    def NodeUnprepareResources(  # noqa: N802
        self, request: dra_v1_pb2.NodeUnprepareResourcesRequest, context: grpc.ServicerContext
    ) -> dra_v1_pb2.NodeUnprepareResourcesResponse:
        answer = dra_v1_pb2.NodeUnprepareResourcesResponse()
        for claim in request.claims:
            try:
                self._preparer.unprepare(claim.uid)
            except OSError as error:
                answer.claims[claim.uid].error = str(error)
            else:
                answer.claims[claim.uid].error = ""
        return answer

    def _devices(self, claim: PreparedClaim) -> list[dra_v1_pb2.Device]:
        return [
            dra_v1_pb2.Device(
                request_names=[device.request],
                pool_name=self._node.node,
                device_name=device.device,
                cdi_device_ids=[cdi_device_id(claim, device)],
            )
            for device in claim.devices
        ]


class HealthServicer(dra_health_v1alpha1_pb2_grpc.DRAResourceHealthServicer):
    """Streams GPU health to kubelet, which shows it in `status.containerStatuses[].allocatedResourcesStatus`."""

    def __init__(self, node: NodeGpus, health: HealthBoard) -> None:
        self._node = node
        self._health = health

    def NodeWatchResources(  # noqa: N802
        self, request: dra_health_v1alpha1_pb2.NodeWatchResourcesRequest, context: grpc.ServicerContext
    ) -> Iterator[dra_health_v1alpha1_pb2.NodeWatchResourcesResponse]:
        for ailments in self._health.changes(until_closed(context, self._health)):
            yield self._snapshot(ailments)

    def _snapshot(self, ailments: Ailments) -> dra_health_v1alpha1_pb2.NodeWatchResourcesResponse:
        answer = dra_health_v1alpha1_pb2.NodeWatchResourcesResponse()
        for gpu in self._node.dra:
            ailment = ailments.get(gpu.name)
            answer.devices.add(
                device=dra_health_v1alpha1_pb2.DeviceIdentifier(pool_name=self._node.node, device_name=gpu.name),
                health=dra_health_v1alpha1_pb2.UNHEALTHY if ailment else dra_health_v1alpha1_pb2.HEALTHY,
                last_updated_time=int(time.time()),
                # Health is sent on change only, so it must not go stale in between: about ten years.
                health_check_timeout_seconds=10 * 365 * 86_400,
                message=ailment.message if ailment else "",
            )
        return answer


class RegistrationServicer(pluginregistration_v1_pb2_grpc.RegistrationServicer):
    """Answers kubelet's plugin watcher, which finds our socket at its start and whenever we create it."""

    def __init__(self, endpoint: Path, on_registered: Callable[[], None]) -> None:
        self._endpoint = endpoint
        self._on_registered = on_registered
        self.registered = False

    def GetInfo(  # noqa: N802
        self, request: pluginregistration_v1_pb2.InfoRequest, context: grpc.ServicerContext
    ) -> pluginregistration_v1_pb2.PluginInfo:
        return pluginregistration_v1_pb2.PluginInfo(
            type="DRAPlugin", name=DRIVER_NAME, endpoint=str(self._endpoint), supported_versions=SERVICES
        )

    def NotifyRegistrationStatus(  # noqa: N802
        self, request: pluginregistration_v1_pb2.RegistrationStatus, context: grpc.ServicerContext
    ) -> pluginregistration_v1_pb2.RegistrationStatusResponse:
        self.registered = request.plugin_registered
        if request.plugin_registered:
            log.info("kubelet registered the DRA driver", extra={"driver": DRIVER_NAME})
            self._on_registered()
        else:
            log.error("kubelet refused the DRA driver", extra={"error": request.error})
        return pluginregistration_v1_pb2.RegistrationStatusResponse()


def until_closed(context: grpc.ServicerContext, health: HealthBoard) -> threading.Event:
    """An event that is set while the stream is open; its end wakes the waiters of `health`."""
    is_open = threading.Event()
    is_open.set()

    def closed() -> None:
        is_open.clear()
        health.wake()

    if not context.add_callback(closed):
        is_open.clear()
    return is_open


class DraEndpoint:
    """The driver's two sockets: the service itself, then the registration that leads kubelet to it."""

    def __init__(self, kubelet_folder: Path, registration: RegistrationServicer) -> None:
        self.service_socket = service_socket(kubelet_folder)
        self.registration_socket = kubelet_folder / "plugins_registry" / f"{DRIVER_NAME}-reg.sock"
        self.registration = registration
        self._servers: list[tuple[grpc.Server, Path]] = []

    def start(self, dra: DraServicer, health: HealthServicer) -> None:
        service = serve(
            self.service_socket,
            lambda s: dra_v1_pb2_grpc.add_DRAPluginServicer_to_server(dra, s),
            lambda s: dra_health_v1alpha1_pb2_grpc.add_DRAResourceHealthServicer_to_server(health, s),
        )
        self._servers.append((service, self.service_socket))
        registration = serve(
            self.registration_socket,
            lambda s: pluginregistration_v1_pb2_grpc.add_RegistrationServicer_to_server(self.registration, s),
        )
        self._servers.append((registration, self.registration_socket))

    def stop(self) -> None:
        """Leave in reverse order, so that kubelet forgets the driver before its service is gone."""
        while self._servers:
            stop_serving(*self._servers.pop())


def service_socket(kubelet_folder: Path) -> Path:
    return kubelet_folder / "plugins" / DRIVER_NAME / "dra.sock"
