"""The operator's rights are exactly these, and each rule says why."""

from __future__ import annotations

from typing import Any

from helm_chart import CHART, Manifest, of_kind, render

CHILD = {"get", "list", "watch", "create", "patch", "delete"}
READ = {"get", "list", "watch"}

IN_A_NAMESPACE = {
    ("phasewatt.io", "disaggregatedinferences"): READ,
    ("phasewatt.io", "disaggregatedinferences/status"): {"get", "patch"},
    ("apps", "deployments"): CHILD,
    ("", "services"): CHILD,
    ("resource.k8s.io", "resourceclaims"): CHILD,
    ("", "pods"): {*READ, "patch"},
    ("events.k8s.io", "events"): {"create"},
}
CLUSTER_WIDE = {("resource.k8s.io", "resourceslices"): READ}


def rights(role: Manifest) -> dict[tuple[str, str], set[str]]:
    return {
        (group, resource): set(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def named(manifests: list[Manifest], kind: str, name: str) -> list[Manifest]:
    return [m for m in of_kind(manifests, kind) if m["metadata"]["name"] == name]


def test_all_namespaces() -> None:
    manifests = render()
    (role,) = named(manifests, "ClusterRole", "phasewatt")
    assert rights(role) == IN_A_NAMESPACE | CLUSTER_WIDE
    assert not of_kind(manifests, "Role")


def test_listed_namespaces_leave_only_slices_cluster_wide() -> None:
    manifests = render({"watchNamespaces": ["a", "b"]})
    (role,) = named(manifests, "ClusterRole", "phasewatt")
    assert rights(role) == CLUSTER_WIDE
    roles = of_kind(manifests, "Role")
    assert {r["metadata"]["namespace"]: rights(r) for r in roles} == {"a": IN_A_NAMESPACE, "b": IN_A_NAMESPACE}


def test_only_the_operators_account_is_bound() -> None:
    manifests = render({"watchNamespaces": ["a", "b"]})
    (account,) = of_kind(manifests, "ServiceAccount")
    subject = {"kind": "ServiceAccount", **{k: account["metadata"][k] for k in ("name", "namespace")}}
    bindings = of_kind(manifests, "ClusterRoleBinding") + of_kind(manifests, "RoleBinding")
    assert [b["subjects"] for b in bindings] == [[subject]] * 3
    assert {b["roleRef"]["name"] for b in bindings} == {"phasewatt"}
    assert of_kind(manifests, "Deployment")[0]["spec"]["template"]["spec"]["serviceAccountName"] == subject["name"]


def test_the_operator_is_told_the_namespaces_it_has_rights_in() -> None:
    def arguments(values: dict[str, Any]) -> list[str]:
        return of_kind(render(values), "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]["args"]

    assert [a for a in arguments({"watchNamespaces": ["a", "b"]}) if "namespaces" in a] == ["--namespaces=a,b"]
    assert not [a for a in arguments({}) if "namespaces" in a]


def test_every_rule_says_why() -> None:
    lines = (CHART / "templates" / "_rules.tpl").read_text().splitlines()
    rules = [i for i, line in enumerate(lines) if line.startswith("- apiGroups")]
    assert len(rules) == len(IN_A_NAMESPACE) + len(CLUSTER_WIDE)
    assert all(lines[i - 1].startswith("# ") for i in rules)


def test_users_get_objects_through_the_built_in_roles() -> None:
    roles = {r["metadata"]["name"]: r for r in of_kind(render(), "ClusterRole")}

    def aggregates(name: str) -> set[str]:
        prefix = "rbac.authorization.k8s.io/aggregate-to-"
        return {label.removeprefix(prefix) for label in roles[name]["metadata"]["labels"] if label.startswith(prefix)}

    assert aggregates("phasewatt-view") == {"view", "edit", "admin"}
    assert aggregates("phasewatt-edit") == {"edit", "admin"}
    assert {verb for verbs in rights(roles["phasewatt-view"]).values() for verb in verbs} == READ
    # The status is the operator's to write.
    assert ("phasewatt.io", "disaggregatedinferences/status") not in rights(roles["phasewatt-edit"])
