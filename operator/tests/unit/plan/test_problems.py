"""Each way to fail tells which child, which container, what it says and what to do."""

from __future__ import annotations

from typing import Any

import pytest
from phasewatt.plan.problems import telling_line

GPUS_SHORT = (
    "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 cannot allocate all claims. preemption: 0/3 x"
)


def start(chat: Any) -> Any:
    chat.look()
    chat.create_pods()
    return chat


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("ErrImagePull", "failed to resolve reference x: not found"),
        ("ImagePullBackOff", 'Back-off pulling image "x": ErrImagePull: failed to resolve reference x: not found'),
    ],
)
def test_a_wrong_image_reads_the_same_however_kubelet_puts_it(chat: Any, reason: str, message: str):
    start(chat).fail("decode", {"image": "engine:1", "state": {"waiting": {"reason": reason, "message": message}}})
    chat.look()
    assert chat.condition("Stalled")["reason"] == "ImageNotPulled"
    assert chat.condition("Stalled")["message"] == (
        "chat-g0-decode-0, container decode-0: image engine:1 cannot be pulled: failed to resolve reference x: "
        "not found. Correct spec.engine.image, or name a pull secret in spec.engine.imagePullSecrets."
    )
    assert chat.condition("DecodeAvailable")["reason"] == "ImageNotPulled"
    assert chat.condition("PrefillAvailable")["reason"] == "Starting"


def crashed(restarts: int, log: str, state: str = "waiting") -> dict[str, Any]:
    now = {"waiting": {"waiting": {"reason": "CrashLoopBackOff"}}, "running": {"running": {}}}[state]
    ended = {"terminated": {"exitCode": 1, "reason": "Error", "message": log}}
    return {"restartCount": restarts, "state": now, "lastState": ended}


def test_a_crash_quotes_the_telling_line_and_says_what_to_correct(chat: Any):
    log = "INFO loading\nOSError: /models/nope is not a valid model identifier\nRuntimeError: Engine core failed"
    start(chat).fail("prefill", crashed(1, log))
    chat.look()
    assert chat.condition("Reconciling")["reason"] == "Crashing"
    assert chat.condition("Stalled")["status"] == "False"
    assert chat.condition("Ready")["message"] == (
        "0 of 1 group serves requests. chat-g0-prefill-0, container prefill-0: exited with code 1; it said: "
        '"OSError: /models/nope is not a valid model identifier". Correct spec.model.name or spec.model.source.'
    )


def test_a_crash_loop_stalls_and_reads_the_same_while_the_container_comes_and_goes(chat: Any):
    start(chat).fail("prefill", crashed(3, "boom"))
    chat.look()
    first = chat.status
    assert chat.condition("Stalled")["reason"] == "Crashing"
    assert (
        "kubectl logs -n team deploy/chat-g0-prefill-0 -c prefill-0 --previous" in chat.condition("Stalled")["message"]
    )
    chat.fail("prefill", crashed(4, "boom", state="running"))
    chat.look()
    assert chat.status == first


def test_a_container_that_recovers_is_forgotten(chat: Any):
    start(chat).fail("prefill", crashed(5, "boom"))
    chat.look()
    chat.serve()
    assert chat.condition("Stalled")["status"] == "False"


def test_a_missing_secret_is_named(chat: Any):
    waiting = {"reason": "CreateContainerConfigError", "message": 'secret "hf" not found'}
    start(chat).fail("prefill", {"state": {"waiting": waiting}})
    chat.look()
    assert chat.condition("Stalled")["reason"] == "ConfigMissing"
    assert 'secret "hf" not found' in chat.condition("Stalled")["message"]


def test_out_of_memory_names_the_limit(chat: Any):
    ended = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    start(chat).fail(
        "decode", {"restartCount": 1, "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ended}
    )
    chat.look()
    assert chat.condition("Ready")["reason"] == "OutOfMemory"
    assert "resources.limits.memory" in chat.condition("Ready")["message"]


def test_too_few_gpus_is_told_once_per_group_and_heals_by_itself(chat: Any):
    start(chat).unschedulable(GPUS_SHORT)
    chat.look()
    assert chat.condition("Stalled")["status"] == "False"
    assert chat.condition("Reconciling")["reason"] == "WaitingForGPUs"
    assert chat.condition("Reconciling")["message"] == (
        "Group 0 waits for 2 free GPUs under one PCIe root. "
        "The cluster has 8 in all, free or not: 4 on node-a, 4 on node-b. "
        "It goes on by itself as soon as they are free; or lower replicas, engines or tensorParallelSize. "
        "The scheduler says: 0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 cannot allocate all claims."
    )
    chat.serve()


@pytest.mark.parametrize(
    ("message", "reason", "stalls"),
    [
        ("0/2 nodes are available: 2 Insufficient nvidia.com/gpu.", "WaitingForGPUs", False),
        ('0/2 nodes are available: persistentvolumeclaim "models" not found.', "VolumeClaimMissing", True),
        ("0/2 nodes are available: 2 Insufficient memory.", "Unschedulable", False),
        ("pod claim gpus: request r: device class gpu.example.com does not exist", "DeviceClassMissing", True),
    ],
)
def test_reasons_of_the_scheduler(chat: Any, message: str, reason: str, stalls: bool):
    start(chat).unschedulable(message, "prefill")
    chat.look()
    assert chat.condition("Ready")["reason"] == reason
    assert (chat.condition("Stalled")["status"] == "True") is stalls


def test_pod_security_that_refuses_the_pods_is_told(chat: Any):
    start(chat)
    message = 'pods "x" is forbidden: violates PodSecurity "restricted:latest": host namespaces (hostPID=true)'
    chat.pods.clear()
    ref = next(ref for ref in chat.children if ref.name == "chat-g0-prefill-0")
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message}
    chat.children[ref] = {**chat.children[ref], "status": {"conditions": [failure]}}
    chat.look()
    assert chat.condition("Stalled")["reason"] == "PodRefused"
    assert "SharedPod" in chat.condition("Stalled")["message"]


def test_the_worst_comes_first_and_the_others_are_counted(chat: Any):
    start(chat).unschedulable("0/2 nodes are available: 2 Insufficient memory.", "prefill")
    chat.fail("decode", {"state": {"waiting": {"reason": "InvalidImageName", "message": "bad"}}})
    chat.look()
    assert chat.condition("Ready")["reason"] == "ImageNotPulled"
    assert chat.condition("Ready")["message"].endswith("(And 1 more problem.)")


@pytest.mark.parametrize(
    ("log", "line"),
    [
        ("", ""),
        ("one\n\ntwo\n", "two"),
        ("ValueError: bad\nstopping", "ValueError: bad"),
        (
            "ValueError: cause\nRuntimeError: Engine core initialization failed. See root cause above.",
            "ValueError: cause",
        ),
    ],
)
def test_the_telling_line_of_a_log(log: str, line: str):
    assert telling_line(log) == line


def test_a_claim_that_is_just_being_allocated_is_no_trouble(chat: Any):
    message = "0/3 nodes are available: 3 resource claim team/x is in the process of being allocated. preemption: 0/3 x"
    start(chat).unschedulable(message)
    chat.look()
    assert chat.condition("Reconciling")["reason"] == "Starting"


def test_what_the_scheduler_tells_of_its_own_next_steps_is_left_out(chat: Any):
    message = "0/2 nodes are available: 2 Insufficient memory. no new claims to deallocate, preemption: 0/2 x"
    start(chat).unschedulable(message)
    chat.look()
    assert "2 Insufficient memory. Check" in chat.condition("Reconciling")["message"]
