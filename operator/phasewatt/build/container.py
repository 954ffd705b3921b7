"""The container of one engine: command, environment, GPUs, probes, mounts."""

from __future__ import annotations

from collections.abc import Sequence

from phasewatt.api.v1alpha1 import Allocation, HuggingFaceSource, ModelSource, Spec
from phasewatt.build.kv_transfer import kv_transfer_config, kv_transfer_env
from phasewatt.build.pods import (
    drain_seconds,
    merged_env,
    pre_stop,
    restricted_container,
    user_env,
    user_resources,
)
from phasewatt.plan import names
from phasewatt.plan.decisions import Decisions
from phasewatt.plan.topology import Engine
from phasewatt.plan.types import Manifest, Settings
from phasewatt.plan.units import to_bytes

START_SECONDS = 3600
"""How long an engine may take to its first /health: a cold start downloads and compiles (llm-d allows the same)."""
HOME = "/home/engine"
MODEL_FOLDER = "/model"
CACHE_FOLDER = "/var/cache/huggingface"
PINS_FOLDER = "/etc/phasewatt/gpus"
QUIET_ENDPOINTS = "/health,/metrics,/v1/models"
PINNED = f'export CUDA_VISIBLE_DEVICES="$(cat {PINS_FOLDER}/"$0")"; exec vllm serve "$@"'
"""Script of an engine that sees all GPUs of its group; $0 is the engine's name."""


def engine_container(spec: Spec, decisions: Decisions, settings: Settings, engine: Engine) -> Manifest:
    arguments = _arguments(spec, decisions, engine)
    pinned = decisions.whole_claim
    return {
        "name": engine.name,
        "image": spec.engine.image or settings.engine_image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["sh", "-c", PINNED, engine.name] if pinned else ["vllm", "serve"],
        "args": arguments,
        "env": _env(spec, decisions, engine),
        "ports": _ports(decisions, engine),
        "lifecycle": pre_stop(),
        "startupProbe": _probe(period=2, failures=START_SECONDS // 2),
        "readinessProbe": _probe(period=5, failures=2),
        "livenessProbe": _probe(period=10, failures=3),
        "resources": _resources(spec, decisions, engine),
        "securityContext": restricted_container(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108
            {"name": "home", "mountPath": HOME},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
            *(mount for _, mount in model_mounts(spec)),
            *([{"name": "gpus", "mountPath": PINS_FOLDER, "readOnly": True}] if pinned else []),
        ],
    }


def model_argument(spec: Spec) -> str:
    """What `vllm serve` is told to load: the same string in all roles, which NIXL's handshake compares."""
    source = _source(spec)
    if source.path:
        return source.path
    if source.claim:
        return f"{MODEL_FOLDER}/{(source.claim.path or '').strip('/')}".rstrip("/")
    return spec.model.name


def model_mounts(spec: Spec) -> list[tuple[Manifest, Manifest]]:
    """Volumes that hold the model, each with its mount."""
    source = _source(spec)
    if source.claim:
        volume = {"name": "model", "persistentVolumeClaim": {"claimName": source.claim.name, "readOnly": True}}
        return [(volume, {"name": "model", "mountPath": MODEL_FOLDER, "readOnly": True})]
    if source.hugging_face and source.hugging_face.cache_claim:
        volume = {"name": "cache", "persistentVolumeClaim": {"claimName": source.hugging_face.cache_claim}}
        return [(volume, {"name": "cache", "mountPath": CACHE_FOLDER})]
    return []


def pins_mount(engines: Sequence[Engine]) -> Manifest:
    """The pod's own annotations as files, one per engine: empty until the operator knows what the claim was given."""
    items = [
        {"path": engine.name, "fieldRef": {"fieldPath": f"metadata.annotations['{names.GPUS_OF}{engine.name}']"}}
        for engine in engines
    ]
    return {"name": "gpus", "downwardAPI": {"items": items}}


def wait_for_pins(spec: Spec, settings: Settings, engines: Sequence[Engine]) -> Manifest:
    """Init container that holds the engines back until each knows its own GPUs.

    UUIDs are known only after the claim is allocated, and the environment of a container cannot come from there.
    """
    files = " && ".join(f"[ -s {PINS_FOLDER}/{engine.name} ]" for engine in engines)
    return {
        "name": "wait-for-gpus",
        "image": spec.engine.image or settings.engine_image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["sh", "-c", f"until {files}; do sleep 0.2; done"],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
        "securityContext": restricted_container(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": "gpus", "mountPath": PINS_FOLDER, "readOnly": True}],
    }


def _source(spec: Spec) -> ModelSource:
    source = spec.model.source or ModelSource()
    if source.claim or source.path or source.hugging_face:
        return source
    return ModelSource(hugging_face=HuggingFaceSource())


def _arguments(spec: Spec, decisions: Decisions, engine: Engine) -> list[str]:
    role = engine.spec
    optional = {
        "--max-model-len": spec.engine.max_model_len,
        "--max-num-seqs": role.max_num_seqs,
        "--max-num-batched-tokens": role.max_batched_tokens,
        **_memory_arguments(engine),
    }
    arguments = [
        model_argument(spec),
        *("--host", "0.0.0.0", "--port", str(engine.http_port)),  # noqa: S104
        *("--served-model-name", spec.model.name),
        *("--tensor-parallel-size", str(role.tensor_parallel_size)),
        *(part for flag, value in optional.items() if value is not None for part in (flag, str(value))),
        *("--shutdown-timeout", str(drain_seconds(spec))),
        *("--disable-access-log-for-endpoints", QUIET_ENDPOINTS),
    ]
    if decisions.transport:
        arguments += ["--kv-transfer-config", kv_transfer_config(spec, engine, decisions.transport.value)]
    return [*arguments, *spec.engine.args, *role.args]


def _memory_arguments(engine: Engine) -> dict[str, object]:
    memory = engine.spec.gpu_memory
    if memory is None:
        return {}
    percent = memory.utilization_percent
    return {
        "--gpu-memory-utilization": f"{percent / 100:.2f}" if percent is not None else None,
        "--kv-cache-memory-bytes": to_bytes(memory.kv_cache) if memory.kv_cache else None,
    }


def _env(spec: Spec, decisions: Decisions, engine: Engine) -> list[dict[str, object]]:
    hugging_face = _source(spec).hugging_face
    cached = hugging_face is not None and hugging_face.cache_claim is not None
    values = {
        "HOME": HOME,
        # torch asks for the name of the user, who has no entry in the image's /etc/passwd.
        "USER": "engine",
        "HF_HOME": CACHE_FOLDER if cached else f"{HOME}/huggingface",
        "VLLM_CACHE_ROOT": f"{HOME}/{engine.name}/vllm",
        "VLLM_ENGINE_READY_TIMEOUT_S": str(START_SECONDS),
        "PYTHONHASHSEED": "0",
    }
    own: list[dict[str, object]] = [{"name": name, "value": value} for name, value in values.items()]
    if hugging_face and (ref := hugging_face.token_secret_ref):
        own.append({"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": ref.name, "key": ref.key}}})
    transfer = kv_transfer_env(spec, decisions, engine)
    return merged_env(own, transfer, user_env(spec.engine.env), user_env(engine.spec.env))


def _ports(decisions: Decisions, engine: Engine) -> list[Manifest]:
    ports: list[Manifest] = [{"name": "http", "containerPort": engine.http_port, "protocol": "TCP"}]
    if decisions.transport:
        ports.append({"name": "side-channel", "containerPort": engine.side_channel_port, "protocol": "TCP"})
    return ports


def _resources(spec: Spec, decisions: Decisions, engine: Engine) -> Manifest:
    resources = user_resources(engine.spec.resources)
    if decisions.allocation.value is Allocation.DEVICE_PLUGIN:
        limits = {**resources.get("limits", {}), spec.gpus.resource_name: str(engine.gpus)}
        return {**resources, "limits": limits}
    if decisions.allocation.value is Allocation.DRA:
        # Over CUDA IPC an engine has to see its peers' GPUs; otherwise its own are all it is given.
        request = {} if decisions.whole_claim else {"request": engine.name}
        return {**resources, "claims": [{"name": "gpus", **request}]}
    return resources


def _probe(*, period: int, failures: int) -> Manifest:
    return {
        "httpGet": {"path": "/health", "port": "http"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }
