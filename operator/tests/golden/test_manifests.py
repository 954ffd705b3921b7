"""Every manifest of each kind of object, byte for byte: a change of a golden file is a restart of running engines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from phasewatt.controllers.decide import decide
from phasewatt.plan.types import GPU, Inventory, Observed, Settings

FOLDER = Path(__file__).parent / "cases"
SETTINGS = Settings(engine_image="registry.example/engine:1", router_image="registry.example/router:1")
DRA = Inventory(
    tuple(
        GPU(node, node, f"gpu-{n}", f"GPU-{node}-{n}", "NVIDIA A100-PCIE-40GB", f"pci0000:{n // 2:02x}")
        for node in ("node-a", "node-b")
        for n in range(4)
    ),
    dra=True,
)
NO_DRA = Inventory()
LLAMA: dict[str, Any] = {"model": {"name": "meta-llama/Llama-3.2-3B-Instruct"}}
CPU_MODEL = {"name": "tiny", "source": {"path": "/opt/phasewatt/engine-env/models/tiny"}}

CASES: dict[str, tuple[dict[str, Any], Inventory]] = {
    "nixl-host": (LLAMA, DRA),
    "cuda-ipc-shared-pod": ({**LLAMA, "podLayout": "SharedPod"}, DRA),
    "cuda-ipc-host-pid": ({**LLAMA, "security": {"allowHostPID": True}}, DRA),
    "device-plugin": (LLAMA, NO_DRA),
    "colocated": ({**LLAMA, "mode": "Colocated", "colocated": {"engines": 2}, "replicas": 2}, DRA),
    "2p1d-tp2": (
        {
            **LLAMA,
            "engine": {
                "image": "registry.example/own:2",
                "imagePullSecrets": ["pull"],
                "maxModelLen": 16640,
                "sharedMemory": "8Gi",
                "args": ["--block-size", "32"],
                "env": [{"name": "NCCL_DEBUG", "value": "INFO"}],
                "nodeSelector": {"gpu": "a100"},
                "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
                "serviceAccountName": "engines",
            },
            "model": {
                "name": "meta-llama/Llama-3.2-3B-Instruct",
                "source": {"huggingFace": {"tokenSecretRef": {"name": "hf", "key": "token"}, "cacheClaim": "weights"}},
            },
            "prefill": {"engines": 2, "tensorParallelSize": 2, "maxBatchedTokens": 8192},
            "decode": {
                "tensorParallelSize": 2,
                "maxNumSeqs": 64,
                "gpuMemory": {"kvCache": "28G"},
                "resources": {"requests": {"cpu": "4", "memory": "32Gi"}, "limits": {"memory": "64Gi"}},
                "env": [{"name": "NCCL_DEBUG", "value": "WARN"}],
            },
            "gpus": {
                "pairing": "SameNode",
                "selectors": ["device.attributes['gpu.nvidia.com'].architecture == 'Ampere'"],
            },
            "kvTransfer": {"onLoadFailure": "Recompute"},
            "router": {"replicas": 2, "policy": "CacheAware", "args": ["--log-level", "debug"]},
            "rollout": {"drainTimeout": "5m30s"},
        },
        DRA,
    ),
    "cpu-nodes": ({"model": CPU_MODEL, "gpus": {"allocation": "None"}}, NO_DRA),
    "model-on-claim": (
        {"model": {"name": "llama", "source": {"claim": {"name": "models", "path": "llama/3b"}}}},
        DRA,
    ),
}


class Plain(yaml.SafeDumper):
    """Without anchors: two equal parts are written out twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def render(spec: dict[str, Any], inventory: Inventory) -> str:
    metadata = {"name": "chat", "namespace": "team", "uid": "7c9e6679", "generation": 1}
    observed = Observed(
        obj={
            "apiVersion": "phasewatt.io/v1alpha1",
            "kind": "DisaggregatedInference",
            "metadata": metadata,
            "spec": spec,
        },
        inventory=inventory,
    )
    outcome = decide(observed, SETTINGS)
    assert outcome.apply, outcome.status
    return yaml.dump_all(outcome.apply, Dumper=Plain, sort_keys=False, width=120)


@pytest.mark.parametrize("case", CASES)
def test_manifests_are_as_committed(case: str, update_golden: bool):
    path, text = FOLDER / f"{case}.yaml", render(*CASES[case])
    if update_golden:
        path.write_text(text)
    assert text == path.read_text(), (
        f"{path.name} differs; if that is meant, run pytest with --update-golden and review it"
    )


def test_no_golden_file_is_left_over():
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(CASES)


@pytest.mark.parametrize("case", CASES)
def test_the_same_object_gives_the_same_bytes(case: str):
    assert render(*CASES[case]) == render(*CASES[case])
