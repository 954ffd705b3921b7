"""Prepare and unprepare claims: the scheduler's decision, the record on disk and the CDI file kept in step."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from phasewatt_mockgpu.claims import ClaimError, ClaimRecords, PreparedClaim, prepared_claim, refuse_shared_devices
from phasewatt_mockgpu.clusterapi import CLUSTER_ERRORS, ClusterApi
from phasewatt_mockgpu.injection import CdiFolder, mountable
from phasewatt_mockgpu.inventory import NodeGpus

log = logging.getLogger(__name__)


class ClaimPreparer:
    """Every method may be called again with the same claim: kubelet repeats calls after its own restart."""

    def __init__(
        self, node: NodeGpus, api: ClusterApi, records: ClaimRecords, cdi: CdiFolder, engine_environment: Path
    ) -> None:
        self._node = node
        self._api = api
        self._records = records
        self._cdi = cdi
        self._engine_environment = engine_environment
        self._lock = threading.Lock()

    def recover(self) -> None:
        """Take over from a predecessor: restore CDI files (the folder is gone after a reboot), drop what has ended."""
        with self._lock:
            self._records.load()
            for claim in self._records.all():
                if self._has_ended(claim):
                    self._forget(claim.uid)
                    log.info("dropped a claim that ended meanwhile", extra=_described(claim))
                else:
                    self._write_cdi(claim)
                    log.info("recovered claim", extra=_described(claim))
            for uid in self._cdi.claim_uids() - {claim.uid for claim in self._records.all()}:
                self._cdi.remove(uid)

    def prepare(self, namespace: str, name: str, uid: str) -> PreparedClaim:
        """The claim's devices, with everything in place for the container runtime. Raises ClaimError."""
        with self._lock:
            known = self._records.get(uid)
            if known is not None:
                self._write_cdi(known)
                return known
            claim = self._api.get_claim(namespace, name)
            if claim is None or claim["metadata"]["uid"] != uid:
                raise ClaimError(f"claim {namespace}/{name} with UID {uid} does not exist any more")
            prepared = prepared_claim(claim, self._node)
            refuse_shared_devices(prepared, self._records.all())
            # Record first: after a crash between the two, recovery writes the CDI file that is missing.
            self._records.add(prepared)
            self._write_cdi(prepared)
            log.info("prepared claim", extra=_described(prepared))
            return prepared

    def unprepare(self, uid: str) -> None:
        """Undo `prepare`; nothing happens for a claim that is not prepared."""
        with self._lock:
            claim = self._forget(uid)
        if claim is not None:
            log.info("unprepared claim", extra=_described(claim))

    def _has_ended(self, claim: PreparedClaim) -> bool:
        try:
            current = self._api.get_claim(claim.namespace, claim.name)
        except CLUSTER_ERRORS as error:
            # Kubelet unprepares what has ended; taking a GPU from a claim that may still live would be worse.
            log.warning("claim kept unseen", extra={**_described(claim), "error": str(error)})
            return False
        return current is None or current["metadata"]["uid"] != claim.uid

    def _write_cdi(self, claim: PreparedClaim) -> None:
        self._cdi.write(claim, mountable(self._engine_environment))

    def _forget(self, uid: str) -> PreparedClaim | None:
        self._cdi.remove(uid)
        return self._records.discard(uid)


def _described(claim: PreparedClaim) -> dict[str, object]:
    return {
        "claim": f"{claim.namespace}/{claim.name}",
        "claim_uid": claim.uid,
        "devices": {device.device: device.request for device in claim.devices},
    }
