"""Every CEL rule: a real API server refuses the bad object with exactly its message, and takes the good twin."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import pytest
from crd_cases import CASES, MODEL, Case
from phasewatt.api.base import VALIDATIONS
from phasewatt.api.crd import NAME_RULE, object_schema
from phasewatt.api.v1alpha1 import API_VERSION, KIND, PLURAL
from phasewatt_testbed.bare import BareControlPlane

MODE_RULE = ("spec.mode", "the mode cannot change; create another object and delete this one")
"""Tested with an update, below."""


def url(namespace: str) -> str:
    return f"/apis/{API_VERSION}/namespaces/{namespace}/{PLURAL}"


def inference(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": {**MODEL, **spec}}


def complaints(answer: dict[str, Any]) -> set[tuple[str, str]]:
    """Field and text of each cause, without the quotation of the value that comes before the text."""
    causes = answer.get("details", {}).get("causes", [])
    prefix = re.compile(r'^(?:Forbidden: |Invalid value: (?:(?:"(?:[^"\\]|\\.)*"|\d+): )?)')
    return {(cause["field"], prefix.sub("", cause["message"])) for cause in causes}


def try_create(plane: BareControlPlane, spec: dict[str, Any], name: str = "chat") -> tuple[int, set[tuple[str, str]]]:
    answer = plane.http.post(url("default"), params={"dryRun": "All"}, json=inference(name, spec))
    return answer.status_code, complaints(answer.json())


def grouped() -> list[tuple[str, list[Case]]]:
    """Cases of one rule together: argument rules have hundreds of spellings, each a request of milliseconds."""
    ordered = sorted(CASES, key=lambda case: case.id)
    return [(name, list(cases)) for name, cases in groupby(ordered, key=lambda case: case.id)]


@pytest.mark.parametrize("cases", [pytest.param(cases, id=name) for name, cases in grouped()])
def test_a_bad_object_is_refused_with_the_message_and_its_good_twin_is_taken(
    crds: BareControlPlane, cases: list[Case]
) -> None:
    for case in cases:
        assert try_create(crds, case.bad) == (422, {(case.field, case.message)}), case.bad
        assert try_create(crds, case.good) == (201, set()), case.good


def rules(schema: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
    for rule in schema.get(VALIDATIONS, []):
        yield path + rule.get("fieldPath", ""), rule["message"]
    for name, member in schema.get("properties", {}).items():
        yield from rules(member, f"{path}.{name}".lstrip("."))
    if "items" in schema:
        yield from rules(schema["items"], f"{path}[0]")


def test_every_rule_has_a_case() -> None:
    have = set(rules(object_schema(), ""))
    tested = {(case.field, case.message) for case in CASES} | {MODE_RULE, ("", NAME_RULE.message)}
    assert have == tested


@pytest.mark.parametrize("name", ["a" * 41, "9lives", "chat.v2", "a-"])
def test_a_name_that_children_cannot_bear_is_refused(crds: BareControlPlane, name: str) -> None:
    status, found = try_create(crds, {}, name=name)
    assert status == 422
    assert NAME_RULE.message in {text for _, text in found}


@pytest.mark.parametrize("name", ["a" * 40, "a", "chat-2"])
def test_a_name_that_children_can_bear_is_taken(crds: BareControlPlane, name: str) -> None:
    assert try_create(crds, {}, name=name) == (201, set())


def test_the_mode_cannot_change_and_all_else_can(crds: BareControlPlane, namespace: str) -> None:
    crds.http.post(url(namespace), json=inference("chat", {})).raise_for_status()

    def patch(spec: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/merge-patch+json"}
        return crds.http.patch(f"{url(namespace)}/chat", json={"spec": spec}, headers=headers)

    refused = patch({"mode": "Colocated"})
    assert (refused.status_code, complaints(refused.json())) == (422, {MODE_RULE})
    assert patch({"replicas": 3, "podLayout": "SharedPod", "gpus": {"allocation": "DRA"}}).status_code == 200


WRONG_FORMATS = {
    "spec.engine.sharedMemory": {"engine": {"sharedMemory": "2GB"}},
    "spec.decode.resources.requests.cpu": {"decode": {"resources": {"requests": {"cpu": "two"}}}},
    "spec.rollout.drainTimeout": {"rollout": {"drainTimeout": "2min"}},
    "spec.rollout.maxUnavailable": {"rollout": {"maxUnavailable": 0}},
    "spec.replicas": {"replicas": 65},
    "spec.prefill.engines": {"prefill": {"engines": 0}},
    "spec.decode.tensorParallelSize": {"decode": {"tensorParallelSize": 17}},
    "spec.prefill.gpuMemory.utilizationPercent": {"prefill": {"gpuMemory": {"utilizationPercent": 101}}},
    "spec.engine.image": {"engine": {"image": "vllm openai"}},
    "spec.model.name": {"model": {"name": "--trust-remote-code"}},
    "spec.kvTransfer.backend": {"kvTransfer": {"backend": "Disk"}},
    "spec.engine.env[1]": {"engine": {"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}},
    "spec.model": {"model": None},
}


@pytest.mark.parametrize(("field", "spec"), WRONG_FORMATS.items(), ids=list(WRONG_FORMATS))
def test_a_wrong_format_or_size_is_refused_at_its_field(
    crds: BareControlPlane, field: str, spec: dict[str, Any]
) -> None:
    status, found = try_create(crds, spec)
    assert status == 422
    # The API server adds that it did not run the rules, at no field.
    assert {where for where, _ in found} - {"<nil>"} == {field}


def test_a_misspelt_field_is_refused_by_strict_clients(crds: BareControlPlane) -> None:
    answer = crds.http.post(
        url("default"),
        params={"dryRun": "All", "fieldValidation": "Strict"},
        json=inference("chat", {"prefil": {"engines": 2}}),
    )
    assert answer.status_code == 400
    assert 'unknown field "spec.prefil"' in answer.json()["message"]
