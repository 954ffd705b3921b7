"""Decides the kind v1alpha4 document of a cluster from the machine's facts. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from phasewatt_testbed.host import Host

ENGINE_MOUNT = "/opt/phasewatt"
"""Where a node sees the folder that holds the engine environment (`engine-env` in it)."""

KUBELET = {
    # Images here come from archives and cannot be pulled again, so none may ever be collected.
    "imageGCHighThresholdPercent": 100,
    "imageGCLowThresholdPercent": 99,
}


def kind_config(host: Host, workers: int, engine_folder: Path) -> dict[str, Any]:
    """A control plane and `workers` GPU nodes that see `engine_folder` of the host read-only.

    Args:
        host: what the machine allows.
        workers: number of worker nodes, at least 1.
        engine_folder: a folder of the host; its content may be replaced while the cluster runs.
    """
    mount = {"hostPath": str(engine_folder), "containerPath": ENGINE_MOUNT, "readOnly": True}
    worker = {"role": "worker", "extraMounts": [mount], "labels": {"phasewatt.io/gpu-node": "true"}}
    return {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "nodes": [{"role": "control-plane"}, *({**worker} for _ in range(workers))],
        "kubeadmConfigPatches": [_kubelet_patch(host)],
        "containerdConfigPatches": _containerd_patches(host),
    }


def _kubelet_patch(host: Host) -> str:
    settings = dict(KUBELET) if host.cgroup_v2 else {**KUBELET, "failCgroupV1": False}
    lines = [f"{key}: {str(value).lower()}" for key, value in settings.items()]
    return "\n".join(["kind: KubeletConfiguration", *lines, ""])


def _containerd_patches(host: Host) -> list[str]:
    if host.may_raise_limits:
        return []
    # Lowering oom_score_adj needs CAP_SYS_RESOURCE, and without this no pod sandbox would start.
    return ['[plugins."io.containerd.grpc.v1.cri"]\n  restrict_oom_score_adj = true\n']
