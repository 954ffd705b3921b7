"""From an allocated ResourceClaim to prepared devices, and the record of them that outlives the process."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from phasewatt_mockgpu import DRIVER_NAME
from phasewatt_mockgpu.files import write_atomically
from phasewatt_mockgpu.inventory import NodeGpus

log = logging.getLogger(__name__)


class ClaimError(Exception):
    """A claim that cannot be prepared; the text goes to kubelet and from there to the pod's events."""


class PreparedDevice(BaseModel):
    """A GPU given to one request of a claim. `admin`: given for monitoring, without taking it from its user."""

    model_config = ConfigDict(frozen=True)

    request: str
    device: str
    uuid: str
    admin: bool = False


class PreparedClaim(BaseModel):
    """All GPUs of this node that one ResourceClaim was given."""

    model_config = ConfigDict(frozen=True)

    uid: str
    namespace: str
    name: str
    devices: tuple[PreparedDevice, ...]


def prepared_claim(claim: dict[str, Any], node: NodeGpus) -> PreparedClaim:
    """The devices that the scheduler allocated to `claim` from this node's share of the DRA driver.

    Raises ClaimError when the claim is not allocated, or names a device that this node does not have.
    """
    metadata = claim["metadata"]
    where = f"claim {metadata['namespace']}/{metadata['name']}"
    allocation = claim.get("status", {}).get("allocation")
    if not allocation:
        raise ClaimError(f"{where} is not allocated yet")
    uuids = {gpu.name: gpu.uuid for gpu in node.dra}
    devices = []
    for result in allocation.get("devices", {}).get("results", []):
        if result["driver"] != DRIVER_NAME:
            continue
        if result["pool"] != node.node or result["device"] not in uuids:
            raise ClaimError(
                f"{where}: {result['pool']}/{result['device']} is not a GPU of this driver on node {node.node}; "
                f"the inventory has {', '.join(uuids) or 'none'}"
            )
        devices.append(
            PreparedDevice(
                # A result of a prioritised list is "request/subrequest"; pods name the request
                # (k8s.io/api resource/v1, DeviceRequestAllocationResult.Request).
                request=result["request"].split("/")[0],
                device=result["device"],
                uuid=uuids[result["device"]],
                admin=bool(result.get("adminAccess")),
            )
        )
    return PreparedClaim(
        uid=metadata["uid"], namespace=metadata["namespace"], name=metadata["name"], devices=tuple(devices)
    )


def refuse_shared_devices(claim: PreparedClaim, others: Iterable[PreparedClaim]) -> None:
    """Raise ClaimError when another prepared claim holds one of the GPUs; admin access takes nothing from anybody."""
    wanted = {d.device for d in claim.devices if not d.admin}
    for other in others:
        held = wanted & {d.device for d in other.devices if not d.admin}
        if held and other.uid != claim.uid:
            raise ClaimError(
                f"claim {claim.namespace}/{claim.name}: {', '.join(sorted(held))} is still prepared for claim "
                f"{other.namespace}/{other.name}; wait until the pods of that claim have ended"
            )


class ClaimRecords:
    """One JSON file per prepared claim, so that a restarted plugin knows what its predecessor gave out."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._claims: dict[str, PreparedClaim] = {}

    def load(self) -> None:
        """Read the folder. A damaged record is dropped: kubelet prepares its claim again before the next container."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._claims.clear()
        for path in sorted(self._folder.glob("*.json")):
            try:
                claim = PreparedClaim.model_validate_json(path.read_bytes())
            except ValidationError as error:
                log.error("damaged claim record dropped", extra={"path": str(path), "error": str(error)})
                path.unlink()
                continue
            self._claims[claim.uid] = claim

    def all(self) -> tuple[PreparedClaim, ...]:
        return tuple(self._claims.values())

    def get(self, uid: str) -> PreparedClaim | None:
        return self._claims.get(uid)

    def add(self, claim: PreparedClaim) -> None:
        write_atomically(self._path(claim.uid), claim.model_dump_json(indent=2))
        self._claims[claim.uid] = claim

    def discard(self, uid: str) -> PreparedClaim | None:
        """Forget the claim; None when it was not known."""
        self._path(uid).unlink(missing_ok=True)
        return self._claims.pop(uid, None)

    def _path(self, uid: str) -> Path:
        return self._folder / f"{uid}.json"
