"""The operator as a process against a real API server, without nodes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from operator_process import OperatorProcess, Team, eventually, playing_kubelet
from phasewatt.api.v1alpha1 import API_VERSION, PLURAL
from phasewatt_testbed.bare import BareControlPlane

APPS, CORE, OURS = "/apis/apps/v1", "/api/v1", f"/apis/{API_VERSION}"
CHILDREN = {"chat-g0-prefill-0", "chat-g0-decode-0", "chat-g0-router"}


@pytest.fixture
def team(crds: BareControlPlane, namespace: str) -> Team:
    return Team(crds, namespace)


@pytest.fixture
def operator(team: Team, tmp_path: Path) -> Iterator[OperatorProcess]:
    process = OperatorProcess(team.plane, tmp_path, team.namespace)
    process.start()
    yield process
    process.stop()


@pytest.fixture
def live_team(controlplane_crds: BareControlPlane, controlplane_namespace: str) -> Iterator[Team]:
    """A namespace where Deployments make pods, pods become Ready and garbage is collected."""
    team = Team(controlplane_crds, controlplane_namespace)
    with playing_kubelet(team):
        yield team


@pytest.fixture
def live_operator(live_team: Team, tmp_path: Path) -> Iterator[OperatorProcess]:
    process = OperatorProcess(live_team.plane, tmp_path, live_team.namespace)
    process.start()
    yield process
    process.stop()


def has_all_children(team: Team) -> bool:
    services = {s["metadata"]["name"] for s in team.list(CORE, "services")}
    return set(team.deployments()) >= CHILDREN and services >= {"chat", "chat-engines"}


@pytest.mark.parametrize(
    ("root", "plural", "name"),
    [(APPS, "deployments", n) for n in sorted(CHILDREN)] + [(CORE, "services", n) for n in ("chat", "chat-engines")],
)
def test_a_deleted_child_is_back(operator: OperatorProcess, team: Team, root: str, plural: str, name: str) -> None:
    team.apply("chat")
    eventually(lambda: has_all_children(team), "all children")
    old = team.get(root, plural, name)
    assert old is not None
    team.delete(root, plural, name)

    def is_back() -> bool:
        new = team.get(root, plural, name)
        return new is not None and new["metadata"]["uid"] != old["metadata"]["uid"]

    eventually(is_back, f"{name} is back")


def test_a_hand_edit_is_undone(operator: OperatorProcess, team: Team) -> None:
    team.apply("chat")
    eventually(lambda: has_all_children(team), "all children")
    where = ("-n", team.namespace)
    team.plane.kubectl("set", "image", "deployment/chat-g0-router", "*=hacked", *where)

    def is_undone() -> bool:
        containers = team.deployments()["chat-g0-router"]["spec"]["template"]["spec"]["containers"]
        return all(c["image"] != "hacked" for c in containers)

    eventually(is_undone, "the router's own image")


def test_at_rest_passes_write_nothing(team: Team, tmp_path: Path) -> None:
    operator = OperatorProcess(team.plane, tmp_path, team.namespace, "--resync=1")
    operator.start()
    try:
        team.apply("chat")
        eventually(lambda: team.condition("chat", "Ready"), "a status")
        eventually(lambda: has_all_children(team), "all children")
        settled = operator.passes + 3
        eventually(lambda: operator.passes >= settled, "some passes")
        writes, passes = operator.writes, operator.passes
        eventually(lambda: operator.passes >= passes + 5, "five more passes")
        assert operator.writes == writes
    finally:
        operator.stop()


def test_a_stranger_of_the_same_name_is_left_alone(operator: OperatorProcess, team: Team) -> None:
    theirs = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "chat", "namespace": team.namespace}}
    team.plane.apply({**theirs, "spec": {"ports": [{"port": 80}]}})
    before = team.get(CORE, "services", "chat")
    team.apply("chat")
    eventually(lambda: team.is_current("chat", "Stalled"), "Stalled")
    stalled = team.condition("chat", "Stalled")
    assert stalled["reason"] == "NameTaken"
    assert "Service chat exists" in stalled["message"]
    assert team.get(CORE, "services", "chat") == before


def test_what_an_admission_policy_refuses_stalls_with_its_reason_until_it_is_changed(
    operator: OperatorProcess, team: Team
) -> None:
    forbid_cpu_limits(team)
    team.apply("chat", prefill={"resources": {"limits": {"cpu": "1"}}})
    eventually(lambda: team.is_current("chat", "Stalled"), "Stalled")
    stalled = team.condition("chat", "Stalled")
    assert stalled["reason"] == "Invalid"
    assert "no CPU limits here" in stalled["message"]
    team.apply("chat", prefill={"resources": {"requests": {"cpu": "1"}}})
    eventually(lambda: has_all_children(team), "all children")
    eventually(lambda: team.condition("chat", "Stalled").get("status") == "False", "no longer Stalled")


def forbid_cpu_limits(team: Team) -> None:
    """An admission policy of a cluster administrator, in force once this returns."""
    kind, name = "ValidatingAdmissionPolicy", f"no-cpu-limits-{team.namespace}"
    root = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": name}}
    rule = {"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"], "operations": ["*"]}
    here = {"matchLabels": {"kubernetes.io/metadata.name": team.namespace}}
    containers = "object.spec.template.spec.containers"
    expression = f"!{containers}.exists(c, has(c.resources.limits) && 'cpu' in c.resources.limits)"
    validation = {"expression": expression, "message": "no CPU limits here"}
    team.plane.apply(
        {**root, "kind": kind, "spec": {"matchConstraints": {"resourceRules": [rule]}, "validations": [validation]}},
        {
            **root,
            "kind": f"{kind}Binding",
            "spec": {"policyName": name, "validationActions": ["Deny"], "matchResources": {"namespaceSelector": here}},
        },
    )
    limits = {"resources": {"limits": {"cpu": "1"}}}
    pod = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "a", **limits}]}}
    probe = {"metadata": {"name": "probe"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": pod}}
    path = f"{APPS}/namespaces/{team.namespace}/deployments?dryRun=All"
    eventually(lambda: team.plane.http.post(path, json=probe).status_code == 422, "the policy in force")


def test_the_status_is_ours_but_other_conditions_stay(operator: OperatorProcess, team: Team) -> None:
    team.apply("chat")
    eventually(lambda: team.condition("chat", "Ready"), "a status")
    ours = team.inference("chat")["status"]
    foreign = {"type": "Audited", "status": "True", "reason": "Checked", "message": "by a human"}
    foreign["lastTransitionTime"] = "2026-01-01T00:00:00Z"
    hacked = {"endpoint": "http://elsewhere", "conditions": [foreign]}
    metadata = {"name": "chat", "namespace": team.namespace}
    body = {"apiVersion": API_VERSION, "kind": "DisaggregatedInference", "metadata": metadata, "status": hacked}
    team.plane.http.patch(
        f"{OURS}/namespaces/{team.namespace}/{PLURAL}/chat/status?fieldManager=human&force=true",
        content=json.dumps(body),
        headers={"Content-Type": "application/apply-patch+yaml"},
    ).raise_for_status()
    eventually(lambda: team.inference("chat")["status"]["endpoint"] == ours["endpoint"], "our endpoint")
    assert team.condition("chat", "Audited")["reason"] == "Checked"


def test_it_recovers_from_a_restart_of_etcd_and_the_api_server(operator: OperatorProcess, team: Team) -> None:
    team.apply("chat")
    eventually(lambda: has_all_children(team), "all children")

    team.plane.restart()

    team.apply("chat", router={"replicas": 2})
    eventually(lambda: team.inference("chat")["status"]["observedGeneration"] == 2, "the new generation")
    eventually(lambda: team.deployments()["chat-g0-router"]["spec"]["replicas"] == 2, "two routers")
    team.delete(APPS, "deployments", "chat-g0-decode-0")
    eventually(lambda: has_all_children(team), "the deleted engine again")


RULES: list[dict[str, Any]] = [
    {"apiGroups": ["phasewatt.io"], "resources": [PLURAL], "verbs": ["get", "list", "watch"]},
    {"apiGroups": ["phasewatt.io"], "resources": [f"{PLURAL}/status"], "verbs": ["get", "patch"]},
    *(
        {"apiGroups": [group], "resources": [plural], "verbs": ["get", "list", "watch", "create", "patch", "delete"]}
        for group, plural in (("apps", "deployments"), ("", "services"), ("resource.k8s.io", "resourceclaims"))
    ),
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch", "patch"]},
    {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create"]},
]
"""All that the operator may do in a namespace that it serves; the chart's role is tested to be the same."""


def test_a_role_in_its_own_namespace_is_enough(team: Team, tmp_path: Path) -> None:
    kubeconfig = account(team, tmp_path)
    operator = OperatorProcess(team.plane, tmp_path, team.namespace, kubeconfig=kubeconfig)
    operator.start()
    try:
        team.apply("chat")
        eventually(lambda: has_all_children(team), "all children")
        eventually(lambda: team.condition("chat", "Ready"), "a status")
        team.delete(APPS, "deployments", "chat-g0-router")
        eventually(lambda: has_all_children(team), "the deleted router again")
        refused = [labels for labels, _ in operator.samples("phasewatt_api_errors_total")]
        assert refused == [{"verb": "list", "kind": "ResourceSlice", "code": "403"}]
    finally:
        operator.stop()
    log = operator.log.read_text()
    assert log.count("GPU inventory is unknown") == 1
    assert "Traceback" not in log


def account(team: Team, folder: Path) -> Path:
    """Kubeconfig of a service account with a Role in the namespace and nothing else."""
    where = {"name": "phasewatt", "namespace": team.namespace}
    subject = {"kind": "ServiceAccount", **where}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "phasewatt"}
    rbac = "rbac.authorization.k8s.io/v1"
    team.plane.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": where},
        {"apiVersion": rbac, "kind": "Role", "metadata": where, "rules": RULES},
        {"apiVersion": rbac, "kind": "RoleBinding", "metadata": where, "subjects": [subject], "roleRef": role},
    )
    token = team.plane.kubectl("create", "token", "phasewatt", "-n", team.namespace).stdout.strip()
    config = json.loads(team.plane.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    path = folder / "kubeconfig"
    path.touch(mode=0o600)
    path.write_text(json.dumps(config))
    return path


def test_killed_at_every_step_of_a_rollout_it_finishes_and_restarts_no_engine_twice(
    live_operator: OperatorProcess, live_team: Team
) -> None:
    live_team.apply("chat", replicas=2)
    eventually(lambda: live_team.is_current("chat"), "Ready")
    before = {name: d["metadata"]["uid"] for name, d in live_team.deployments().items()}
    live_team.apply("chat", replicas=2, engine={"env": [{"name": "REVISION", "value": "2"}]})

    def step() -> list[tuple[str, int]]:
        return sorted((name, d["metadata"]["generation"]) for name, d in live_team.deployments().items())

    kills, seen = 0, step()
    while not live_team.is_current("chat"):
        last = seen
        eventually(lambda last=last: step() != last or live_team.is_current("chat"), "the next step of the rollout")
        live_operator.kill()
        kills, seen = kills + 1, step()
        live_operator.start()

    assert kills >= 3
    assert {name: d["metadata"]["uid"] for name, d in live_team.deployments().items()} == before
    revisions: dict[str, int] = {}
    for replica_set in live_team.list(APPS, "replicasets"):
        owner = replica_set["metadata"]["ownerReferences"][0]["name"]
        revisions[owner] = revisions.get(owner, 0) + 1
    engines = {name: count for name, count in revisions.items() if "router" not in name}
    assert set(engines.values()) == {2}, "one replica set before, one after"


def test_an_object_of_the_same_name_can_come_back_at_once(live_operator: OperatorProcess, live_team: Team) -> None:
    live_team.apply("chat")
    eventually(lambda: live_team.is_current("chat"), "Ready")
    old = {name: d["metadata"]["uid"] for name, d in live_team.deployments().items()}
    live_team.delete(OURS, PLURAL, "chat")
    live_team.apply("chat")
    eventually(lambda: live_team.is_current("chat"), "Ready again")
    new = {name: d["metadata"]["uid"] for name, d in live_team.deployments().items()}
    assert new.keys() == old.keys()
    assert not set(new.values()) & set(old.values())


def test_after_its_deletion_nothing_of_an_object_is_left(live_operator: OperatorProcess, live_team: Team) -> None:
    live_team.plane.kubectl("create", "deployment", "neighbour", "--image=none", "-n", live_team.namespace)
    live_team.apply("chat")
    eventually(lambda: live_team.is_current("chat"), "Ready")
    live_team.delete(OURS, PLURAL, "chat")
    eventually(lambda: set(live_team.deployments()) == {"neighbour"}, "only the neighbour")
    eventually(lambda: not live_team.list(CORE, "services"), "no Service")
    eventually(lambda: live_operator.samples("phasewatt_objects") == [], "no object counted")


def test_sigterm_ends_it_cleanly(operator: OperatorProcess, team: Team) -> None:
    team.apply("chat")
    eventually(lambda: has_all_children(team), "all children")
    process = operator._process
    assert process is not None
    process.terminate()
    assert process.wait(30) == 0
