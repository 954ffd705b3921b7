"""What keeps a pod from serving, told as a story: which child, which container, what it says, what to do.

Small pure checks over what kubelet and the scheduler report. A text must not change while its cause does not: kubelet
goes back and forth between `ErrImagePull` and `ImagePullBackOff`, and between a crash and the next start.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from phasewatt.plan.types import Manifest

HOPELESS_RESTARTS = 3
"""Restarts of a container after which we no longer expect the next one to help."""
LONGEST_QUOTE = 300


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `stalls` marks what needs someone to change something."""

    reason: str
    message: str
    stalls: bool = False


def pod_problems(pod: Manifest, child: str) -> Iterator[Problem]:
    """Problems of one pod, worst first within a container; `child` is the Deployment that the pod belongs to."""
    status = pod.get("status", {})
    namespace = pod["metadata"]["namespace"]
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        if container.get("ready"):
            continue
        problem = _waiting(container, child) or _crash(container, child, namespace)
        if problem:
            yield problem
    if problem := _unschedulable(status, child):
        yield problem


def deployment_problem(deployment: Manifest) -> Problem | None:
    """Pods that could not even be created: a quota, or Pod Security."""
    conditions = deployment.get("status", {}).get("conditions") or []
    failure = next((c for c in conditions if c["type"] == "ReplicaFailure" and c["status"] == "True"), None)
    if failure is None:
        return None
    child, text = deployment["metadata"]["name"], _quote(failure.get("message", ""))
    if "violates PodSecurity" in text:
        return Problem(
            "PodRefused",
            f"{child}: the namespace's Pod Security level refuses its pod: {text}. Label the namespace "
            "pod-security.kubernetes.io/enforce=privileged, or use podLayout SharedPod or transport Host.",
            stalls=True,
        )
    return Problem("PodRefused", f"{child}: its pod cannot be created: {text}.")


def _waiting(container: Manifest, child: str) -> Problem | None:
    waiting = container.get("state", {}).get("waiting")
    if not waiting:
        return None
    who = _who(child, container)
    reason, text = waiting.get("reason", ""), waiting.get("message", "")
    if reason in ("ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull"):
        cause = _quote(re.sub(r"^.*ErrImagePull: ", "", re.sub(r"^Back-off pulling image \"[^\"]*\"$", "", text)))
        cause = f": {cause}" if cause else ""
        return Problem(
            "ImageNotPulled",
            f"{who}: image {container.get('image') or 'of this container'} cannot be pulled{cause}. Correct "
            f"{_image_field(container)}, or name a pull secret in spec.engine.imagePullSecrets.",
            stalls=True,
        )
    if reason == "CreateContainerConfigError":
        return Problem(
            "ConfigMissing",
            f"{who}: {_quote(text)}. Create what is missing in this namespace, or correct the reference in the spec.",
            stalls=True,
        )
    if reason in ("CreateContainerError", "RunContainerError"):
        return Problem("CannotStart", f"{who}: the container cannot be started: {_quote(text)}.", stalls=True)
    return None


def _crash(container: Manifest, child: str, namespace: str) -> Problem | None:
    """The latest end of a container that is not ready; an init container that ended well is done."""
    ended = container.get("state", {}).get("terminated") or container.get("lastState", {}).get("terminated")
    if not ended or (ended.get("exitCode") == 0 and not container.get("restartCount")):
        return None
    who = _who(child, container)
    hopeless = container.get("restartCount", 0) >= HOPELESS_RESTARTS
    if ended.get("reason") == "OOMKilled":
        return Problem(
            "OutOfMemory",
            f"{who}: killed because it used more memory than its limit. Raise resources.limits.memory of its role.",
            stalls=hopeless,
        )
    line = telling_line(ended.get("message", ""))
    said = f'; it said: "{_quote(line)}"' if line else ""
    advice = _advice(line) or f"Read `kubectl logs -n {namespace} deploy/{child} -c {container['name']} --previous`."
    return Problem("Crashing", f"{who}: exited with code {ended.get('exitCode')}{said}. {advice}", stalls=hopeless)


def telling_line(log: str) -> str:
    """The line of a log's end that names the cause: the last error that does not point at another, or the last line."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"\b(\w*(Error|Exception)|error|fatal)\b\s*:", line, re.IGNORECASE)]
    causes = [line for line in errors if "See root cause above" not in line and "engine core" not in line.lower()]
    return next(iter([*causes[-1:], *errors[-1:], *lines[-1:]]), "")


_ADVICE = (
    (
        r"gated repo|401 Client|403 Client|restricted and you are not in the authorized list",
        "Give a token that may read the model: spec.model.source.huggingFace.tokenSecretRef.",
    ),
    (
        r"valid model identifier|Invalid repository ID|Repository Not Found|Repo id must|does not appear to have a file"
        r"|No such file or directory|model path|config\.json|safetensors",
        "Correct spec.model.name or spec.model.source.",
    ),
    (
        r"out of memory|memory for the cache blocks|KV cache is needed|less than desired GPU memory",
        "Lower maxModelLen or maxNumSeqs, or change gpuMemory of the role.",
    ),
    (r"unrecognized arguments|invalid choice|argument -", "Correct the args of the engine or of its role."),
)


_SCHEDULER_TAIL = r",?\s*((no new claims to deallocate|still not schedulable),?\s*)*(preemption: .*)?$"
"""What the scheduler tells of its own next steps, which nobody can act on."""

_ALLOCATING = "is in the process of being allocated"
"""A claim that another pod of the group has just asked for: over in a moment."""


def _advice(line: str) -> str | None:
    return next((advice for pattern, advice in _ADVICE if re.search(pattern, line, re.IGNORECASE)), None)


def _unschedulable(status: Manifest, child: str) -> Problem | None:
    conditions = status.get("conditions") or []
    scheduled = next((c for c in conditions if c["type"] == "PodScheduled" and c["status"] == "False"), None)
    if scheduled is None or scheduled.get("reason") != "Unschedulable":
        return None
    text = re.sub(_SCHEDULER_TAIL, "", scheduled.get("message", ""))
    if _ALLOCATING in text:
        return None
    if "persistentvolumeclaim" in text and "not found" in text:
        return Problem(
            "VolumeClaimMissing",
            f"{child}: {_quote(text)}. Create the PersistentVolumeClaim here, or correct spec.model.source.",
            stalls=True,
        )
    if re.search(r"device ?class \S+ (does not exist|not found)", text, re.IGNORECASE):
        return Problem(
            "DeviceClassMissing",
            f"{child}: {_quote(text)}. Install the GPUs' DRA driver, or correct spec.gpus.deviceClassName.",
            stalls=True,
        )
    if is_about_gpus(text):
        return Problem("WaitingForGPUs", _quote(text))
    return Problem(
        "Unschedulable",
        f"{child}: no node takes its pod: {_quote(text)}. Check spec.engine.nodeSelector, spec.engine.tolerations and "
        "the resources of the role.",
    )


def is_about_gpus(text: str) -> bool:
    """Whether the scheduler's message says that devices are short, by DRA or as an extended resource."""
    return bool(re.search(r"cannot allocate all claims|resourceclaim|Insufficient \S+/\S+", text, re.IGNORECASE))


def _who(child: str, container: dict[str, Any]) -> str:
    return f"{child}, container {container['name']}"


def _image_field(container: Manifest) -> str:
    return "spec.router.image" if container["name"] == "router" else "spec.engine.image"


def _quote(text: str) -> str:
    text = " ".join(text.split()).rstrip(".")
    return text if len(text) <= LONGEST_QUOTE else f"{text[: LONGEST_QUOTE - 1]}…"
