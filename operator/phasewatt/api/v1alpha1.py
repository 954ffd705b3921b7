"""The `DisaggregatedInference` object, as users write it and as the operator reads it.

The CRD is generated from these models, so a description here is what `kubectl explain` teaches: each says what the
field means, its unit, its default and what leaving it out or setting zero does. A field exists only once its behaviour
does.
"""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict

from phasewatt.api.base import Base
from phasewatt.api.engine import (
    ClaimSource,
    EngineSpec,
    EnvVar,
    GPUMemory,
    HuggingFaceSource,
    ModelSource,
    ModelSpec,
    Resources,
    RoleSpec,
    SecretKeyRef,
    Toleration,
)
from phasewatt.api.enums import (
    Allocation,
    Backend,
    Mode,
    OnLoadFailure,
    Pairing,
    PodLayout,
    Role,
    RouterPolicy,
    Transport,
)
from phasewatt.api.spec import (
    GPUSpec,
    KVTransferSpec,
    NIXLSpec,
    RolloutSpec,
    RouterSpec,
    SecuritySpec,
    Spec,
)
from phasewatt.api.status import Condition, EngineStatus, GroupStatus, KVTransferStatus, RoleStatus, Status

GROUP = "phasewatt.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "DisaggregatedInference"
PLURAL = "disaggregatedinferences"

__all__ = [
    "API_VERSION",
    "GROUP",
    "KIND",
    "PLURAL",
    "VERSION",
    "Allocation",
    "Backend",
    "Base",
    "ClaimSource",
    "Condition",
    "DisaggregatedInference",
    "EngineSpec",
    "EngineStatus",
    "EnvVar",
    "GPUMemory",
    "GPUSpec",
    "GroupStatus",
    "HuggingFaceSource",
    "KVTransferSpec",
    "KVTransferStatus",
    "Mode",
    "ModelSource",
    "ModelSpec",
    "NIXLSpec",
    "OnLoadFailure",
    "Pairing",
    "PodLayout",
    "Resources",
    "Role",
    "RoleSpec",
    "RoleStatus",
    "RolloutSpec",
    "RouterPolicy",
    "RouterSpec",
    "SecretKeyRef",
    "SecuritySpec",
    "Spec",
    "Status",
    "Toleration",
    "Transport",
]


class DisaggregatedInference(Base):
    """One model, served by groups of prefill and decode engines (or colocated ones) behind one endpoint."""

    model_config = ConfigDict(extra="ignore")

    api_version: str = API_VERSION
    kind: str = KIND
    metadata: dict[str, Any]
    spec: Spec
    status: Status | None = None
