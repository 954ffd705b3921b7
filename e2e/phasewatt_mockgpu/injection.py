"""What a container with a mock GPU gets: environment variables and the engine environment, never a device node.

The Container Device Interface (CDI) files follow https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from phasewatt_mockgpu.claims import PreparedClaim, PreparedDevice
from phasewatt_mockgpu.files import write_atomically

CDI_VENDOR, CDI_CLASS = "mock.phasewatt.io", "gpu"
CDI_VERSION = "0.6.0"
"""At least 0.5.0, from which a device name may begin with a digit, as claim UIDs do."""


def request_variable(request: str) -> str:
    """Name of the variable that carries the UUIDs of one request. Request names are DNS labels, so no two collide."""
    return f"MOCK_GPU_{request.upper().replace('-', '_')}"


def cdi_device_name(claim: PreparedClaim, device: PreparedDevice) -> str:
    return f"{claim.uid}-{device.request}-{device.device}"


def cdi_device_id(claim: PreparedClaim, device: PreparedDevice) -> str:
    """Fully qualified name that kubelet hands to the container runtime."""
    return f"{CDI_VENDOR}/{CDI_CLASS}={cdi_device_name(claim, device)}"


def cdi_spec(claim: PreparedClaim, engine_environment: Path | None) -> dict[str, Any]:
    """The CDI file of one claim.

    Of two edits that set one variable the last wins, so every device of a request carries the UUIDs of the whole
    request: the order then does not matter, and a container that takes one request only sees that one.
    `NVIDIA_VISIBLE_DEVICES=void` is what the NVIDIA DRA driver sets, to keep the older injection path out.
    """
    uuids: dict[str, list[str]] = defaultdict(list)
    for device in claim.devices:
        uuids[device.request].append(device.uuid)
    edits: dict[str, Any] = {"env": ["NVIDIA_VISIBLE_DEVICES=void"]}
    if engine_environment is not None:
        folder = str(engine_environment)
        options = ["ro", "nosuid", "nodev", "rbind"]
        edits["mounts"] = [{"hostPath": folder, "containerPath": folder, "options": options}]
    return {
        "cdiVersion": CDI_VERSION,
        "kind": f"{CDI_VENDOR}/{CDI_CLASS}",
        "devices": [
            {
                "name": cdi_device_name(claim, device),
                "containerEdits": {"env": [f"{request_variable(device.request)}={','.join(uuids[device.request])}"]},
            }
            for device in claim.devices
        ],
        "containerEdits": edits,
    }


def mountable(folder: Path) -> Path | None:
    """`folder` when the node has something in it, else None: an empty mount would hide the image's own content."""
    return folder if folder.is_dir() and any(folder.iterdir()) else None


class CdiFolder:
    """Our CDI files in the runtime's folder: one per claim, none of anybody else touched."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._prefix = f"{CDI_VENDOR}-{CDI_CLASS}_"

    def write(self, claim: PreparedClaim, engine_environment: Path | None) -> None:
        write_atomically(self._path(claim.uid), json.dumps(cdi_spec(claim, engine_environment), indent=2))

    def remove(self, claim_uid: str) -> None:
        self._path(claim_uid).unlink(missing_ok=True)

    def claim_uids(self) -> frozenset[str]:
        """Claims that have a file."""
        return frozenset(path.stem.removeprefix(self._prefix) for path in self._folder.glob(f"{self._prefix}*.json"))

    def _path(self, claim_uid: str) -> Path:
        return self._folder / f"{self._prefix}{claim_uid}.json"
