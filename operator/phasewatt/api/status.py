"""What the operator reports back."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from phasewatt.api.base import Base, list_map
from phasewatt.api.enums import Role


class Condition(Base):
    """metav1.Condition (Kubernetes API conventions, "Typical status properties")."""

    type: str = Field(max_length=316, description="type of the condition, such as Ready.")
    status: Literal["True", "False", "Unknown"] = Field(description="status of the condition.")
    reason: str = Field(
        min_length=1,
        max_length=1024,
        pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
        description="reason is the cause in one word, for programs.",
    )
    message: str = Field(max_length=32768, description="message tells people what is going on and what to do about it.")
    observed_generation: int | None = Field(
        None, ge=0, description="observedGeneration is the metadata.generation that this condition speaks of."
    )
    last_transition_time: str | None = Field(
        None,
        json_schema_extra={"format": "date-time"},
        description="lastTransitionTime is when status last changed.",
    )


class EngineStatus(Base):
    name: str = Field(max_length=63, description="name of the engine inside its group, such as prefill-0.")
    role: Role = Field(description="role of the engine.")
    pod: str | None = Field(None, max_length=253, description="pod that runs the engine. Absent: there is none now.")
    gpus: list[str] = Field(
        default_factory=list,
        max_length=32,
        description="gpus are the UUIDs of the GPUs that the engine runs on. Absent: none, or not known.",
    )
    ready: bool = Field(False, description="ready says whether the engine answers requests.")


class GroupStatus(Base):
    index: int = Field(ge=0, description="index of the group, from 0.")
    ready: bool = Field(False, description="ready says whether the group serves requests.")
    phase: str | None = Field(
        None, max_length=63, description="phase is the rollout step the group is in, in one word."
    )
    node: str | None = Field(
        None, max_length=253, description="node that all engines of the group are on. Absent: none yet, or several."
    )
    pairing_satisfied: bool | None = Field(
        None,
        description="pairingSatisfied says whether the GPUs are as close as spec.gpus.pairing asks. Absent: not known.",
    )
    engines: list[EngineStatus] = Field(
        default_factory=list,
        max_length=32,
        json_schema_extra=list_map("name"),
        description="engines of the group.",
    )


class RoleStatus(Base):
    ready: int = Field(0, ge=0, description="ready counts those that answer requests.")
    updated: int = Field(0, ge=0, description="updated counts those of the newest revision.")
    total: int = Field(0, ge=0, description="total counts those that are wanted.")


class KVTransferStatus(Base):
    backend: str | None = Field(None, max_length=63, description="backend in use.")
    transport: str | None = Field(None, max_length=63, description="transport that carries the KV cache.")
    reason: str | None = Field(None, max_length=1024, description="reason of the choice, and what would change it.")
    transferred_tokens: int | None = Field(
        None, ge=0, description="transferredTokens are prompt tokens whose KV cache decode got from prefill."
    )
    recomputed_tokens: int | None = Field(
        None, ge=0, description="recomputedTokens are prompt tokens that decode computed again itself."
    )


class Status(Base):
    observed_generation: int | None = Field(
        None, ge=0, description="observedGeneration is the metadata.generation that this status speaks of."
    )
    endpoint: str | None = Field(
        None, max_length=512, description="endpoint is the URL inside the cluster that serves the OpenAI API."
    )
    ready: str | None = Field(None, max_length=32, description="ready groups of all groups, such as `2/2`.")
    replicas: int = Field(0, ge=0, description="replicas is the number of groups that exist.")
    ready_replicas: int = Field(0, ge=0, description="readyReplicas is the number of groups that serve.")
    selector: str | None = Field(
        None, max_length=1024, description="selector of the engines' pods, for the scale subresource."
    )
    prefill: RoleStatus | None = Field(None, description="prefill counts the prefill engines of all groups.")
    decode: RoleStatus | None = Field(None, description="decode counts the decode engines of all groups.")
    colocated: RoleStatus | None = Field(None, description="colocated counts the colocated engines of all groups.")
    router: RoleStatus | None = Field(None, description="router counts the router pods of all groups.")
    kv_transfer: KVTransferStatus | None = Field(
        None, description="kvTransfer is the chosen KV path and what it carried. Absent in mode Colocated."
    )
    groups: list[GroupStatus] = Field(
        default_factory=list,
        max_length=64,
        json_schema_extra=list_map("index"),
        description="groups and their engines.",
    )
    conditions: list[Condition] = Field(
        default_factory=list,
        max_length=16,
        json_schema_extra=list_map("type"),
        description="conditions: Ready, Reconciling and Stalled as kstatus reads them, and what they are made of.",
    )
