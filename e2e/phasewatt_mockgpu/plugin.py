"""The node plugin put together: what runs beside what, and in which order it starts and ends."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from phasewatt_mockgpu import DRIVER_NAME
from phasewatt_mockgpu.claims import ClaimRecords
from phasewatt_mockgpu.clusterapi import ClusterApi
from phasewatt_mockgpu.deviceplugin import DevicePluginEndpoint, DevicePluginServicer
from phasewatt_mockgpu.dra import DraEndpoint, DraServicer, HealthServicer, RegistrationServicer, service_socket
from phasewatt_mockgpu.health import POLL_SECONDS, HealthBoard
from phasewatt_mockgpu.injection import CdiFolder
from phasewatt_mockgpu.inventory import InventoryError, NodeGpus, load_inventory
from phasewatt_mockgpu.preparation import ClaimPreparer
from phasewatt_mockgpu.probes import Check, dra_socket_answers, probe_server
from phasewatt_mockgpu.publisher import SlicePublisher

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """Where things are on the node."""

    node: str
    inventory: Path
    kubelet_folder: Path
    cdi_folder: Path
    engine_environment: Path
    probe_port: int

    @property
    def state_folder(self) -> Path:
        """Survives the pod and the node's reboot: the driver's own folder below kubelet's."""
        return self.kubelet_folder / "plugins" / DRIVER_NAME

    @property
    def health_file(self) -> Path:
        return self.state_folder / "unhealthy.json"


class NodePlugin:
    """Both allocators of one node. `run` returns when `stop` is set, or raises what broke one of the parts."""

    def __init__(self, settings: Settings, api: ClusterApi) -> None:
        self._settings = settings
        self._node = load_inventory(settings.inventory).for_node(settings.node)
        self._health = HealthBoard(settings.health_file)
        self._publisher = SlicePublisher(self._node, api, self._health)
        self._preparer = ClaimPreparer(
            self._node,
            api,
            ClaimRecords(settings.state_folder / "claims"),
            CdiFolder(settings.cdi_folder),
            settings.engine_environment,
        )
        registration = RegistrationServicer(service_socket(settings.kubelet_folder), self._publisher.poke)
        self._dra = DraEndpoint(settings.kubelet_folder, registration)
        self._device_plugin = DevicePluginEndpoint(
            settings.kubelet_folder,
            DevicePluginServicer(self._node.device_plugin, self._health, settings.engine_environment),
        )

    def run(self, stop: threading.Event) -> None:
        """Serve until `stop`. Nothing is unprepared at the end: pods that hold GPUs outlive this process."""
        self._preparer.recover()
        self._dra.start(DraServicer(self._node, self._preparer), HealthServicer(self._node, self._health))
        probes = probe_server(self._settings.probe_port, self._checks())
        loops: list[Callable[[threading.Event], None]] = [self._publisher.run, self._watch_files]
        if self._node.device_plugin:
            loops.append(self._device_plugin.run)
        log.info("serving simulated GPUs", extra=_shares(self._node))
        try:
            with ThreadPoolExecutor(len(loops) + 1) as pool:
                running = [pool.submit(loop, stop) for loop in loops]
                serving = pool.submit(probes.serve_forever)
                wait([*running, serving], return_when=FIRST_COMPLETED)
                stop.set()
                self._publisher.poke()
                probes.shutdown()
            for part in (*running, serving):
                part.result()
        finally:
            probes.server_close()
            self._dra.stop()
        log.info("stopped")

    def _watch_files(self, stop: threading.Event) -> None:
        """React to the health file at once, and to a new inventory by ending: the container restarts with it."""
        while not stop.wait(POLL_SECONDS):
            if self._health.refresh():
                self._publisher.poke()
            try:
                changed = load_inventory(self._settings.inventory).for_node(self._settings.node) != self._node
            except InventoryError as error:
                log.error("new inventory ignored", extra={"error": str(error)})
                continue
            if changed:
                log.info("the inventory has changed: restarting")
                return

    def _checks(self) -> dict[str, list[Check]]:
        def registered() -> str | None:
            return None if self._dra.registration.registered else "kubelet has not registered the DRA driver yet"

        def published() -> str | None:
            return None if self._publisher.published else "the ResourceSlice is not published yet"

        def offered() -> str | None:
            ok = not self._node.device_plugin or self._device_plugin.registered
            return None if ok else "kubelet has not registered the device plugin yet"

        return {
            "/healthz": [lambda: dra_socket_answers(self._dra.service_socket)],
            "/readyz": [registered, published, offered],
        }


def _shares(node: NodeGpus) -> dict[str, object]:
    return {
        "node": node.node,
        "dra": [gpu.name for gpu in node.dra],
        "device_plugin": [gpu.name for gpu in node.device_plugin],
    }
