"""Keeps the node's ResourceSlice as it should be, whoever changes or deletes it.

Kubelet deletes all ResourceSlices of its node when it starts, and those of a driver that has been away for long
(k8s.io/kubernetes pkg/kubelet/cm/dra/plugin/dra_plugin_manager.go), so publishing once is not enough.
"""

from __future__ import annotations

import logging
import threading

from kubernetes.client import ApiException

from phasewatt_mockgpu.clusterapi import CLUSTER_ERRORS, ClusterApi
from phasewatt_mockgpu.health import HealthBoard
from phasewatt_mockgpu.inventory import NodeGpus
from phasewatt_mockgpu.slices import plan_slices

log = logging.getLogger(__name__)
RESYNC_SECONDS = 60.0
RETRY_SECONDS = 2.0


class SlicePublisher:
    """Level-based: `poke` says that something may have changed, `run` looks and writes the difference."""

    def __init__(self, node: NodeGpus, api: ClusterApi, health: HealthBoard) -> None:
        self._node = node
        self._api = api
        self._health = health
        self._poked = threading.Event()
        self._published = threading.Event()

    @property
    def published(self) -> bool:
        """True when the last look found, or made, the slice as it should be."""
        return self._published.is_set()

    def poke(self) -> None:
        self._poked.set()

    def run(self, stop: threading.Event) -> None:
        """Publish until `stop` is set and `poke` is called."""
        threading.Thread(target=self._watch, args=(stop,), name="slice-watch", daemon=True).start()
        wait_seconds = 0.0
        while not stop.is_set():
            self._poked.wait(wait_seconds)
            self._poked.clear()
            if stop.is_set():
                return
            try:
                self._publish()
            except CLUSTER_ERRORS as error:
                self._published.clear()
                wait_seconds = RETRY_SECONDS
                log.warning("ResourceSlice not published yet", extra={"error": _brief(error)})
            else:
                self._published.set()
                wait_seconds = RESYNC_SECONDS

    def _publish(self) -> None:
        node = self._node
        node_uid = self._api.node_uid(node.node)
        change = plan_slices(node, node_uid, self._health.ailments, self._api.list_slices(node.node))
        for name in change.delete:
            self._api.delete_slice(name)
            log.info("deleted ResourceSlice", extra={"slice": name})
        for verb, manifest in ((self._api.create_slice, change.create), (self._api.replace_slice, change.replace)):
            if manifest is not None:
                verb(manifest)
                generation = manifest["spec"]["pool"]["generation"]
                log.info("published ResourceSlice", extra={"generation": generation, "gpus": len(node.dra)})

    def _watch(self, stop: threading.Event) -> None:
        # Blocks inside a read for minutes, hence a daemon thread of its own that only pokes.
        while not stop.is_set():
            try:
                for _ in self._api.slice_events(self._node.node):
                    self.poke()
            except CLUSTER_ERRORS as error:
                log.warning("watch on ResourceSlices ended", extra={"error": _brief(error)})
            stop.wait(RETRY_SECONDS)


def _brief(error: Exception) -> str:
    return f"{error.status} {error.reason}" if isinstance(error, ApiException) else str(error)
