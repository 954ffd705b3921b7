"""`phasewatt plan` without a cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from phasewatt.cli import main
from phasewatt.controllers.decide import decide
from phasewatt.plan.types import Inventory, Observed, Settings

CHAT: dict[str, Any] = {
    "apiVersion": "phasewatt.io/v1alpha1",
    "kind": "DisaggregatedInference",
    "metadata": {"name": "chat"},
    "spec": {"model": {"name": "m"}},
}


def run(*args: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, ["plan", *args], input=stdin)


def document(**spec: Any) -> str:
    return yaml.safe_dump({**CHAT, "spec": {**CHAT["spec"], **spec}})


def test_yaml_is_exactly_what_the_operator_applies():
    done = run("-", "-o", "yaml", "--engine-image", "e:1", "--router-image", "r:1", stdin=document())
    obj = {**CHAT, "metadata": {"name": "chat", "namespace": "default"}}
    outcome = decide(Observed(obj=obj, inventory=Inventory(dra=True)), Settings("e:1", "r:1"))
    assert list(yaml.safe_load_all(done.output)) == list(outcome.apply)


def test_text_tells_each_choice_with_its_reason_and_the_steps():
    done = run("-", stdin=document())
    assert done.exit_code == 0
    for part in ("default/chat", "SameNode", "Host", "chat-g0-router", "route requests to it"):
        assert part in done.output


def test_json_holds_decisions_rollout_and_manifests():
    (chat,) = json.loads(run("-", "-o", "json", stdin=document()).output)
    assert chat["decisions"]["allocation"]["value"] == "DRA"
    assert len(chat["rollout"]) == 1
    assert [m["kind"] for m in chat["manifests"]][:3] == ["Service", "Service", "ResourceClaim"]


def test_from_prints_the_steps_between_two_versions(tmp_path: Path):
    (tmp_path / "old.yaml").write_text(document())
    (chat,) = json.loads(
        run("-", "-o", "json", "--from", str(tmp_path / "old.yaml"), stdin=document(engine={"maxModelLen": 9})).output
    )
    assert chat["rollout"] == [
        ["group 0: let its router finish its requests and stop"],
        ["group 0: stop chat-g0-prefill-0, chat-g0-decode-0"],
        ["group 0: run chat-g0-prefill-0, chat-g0-decode-0"],
        ["group 0: route requests to it"],
    ]


def test_a_file_may_hold_several_objects_and_others_kinds():
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}}
    second = {**CHAT, "metadata": {"name": "two", "namespace": "b"}}
    done = run("-", "-o", "json", "-n", "a", stdin=yaml.safe_dump_all([secret, CHAT, second]))
    assert [(item["namespace"], item["name"]) for item in json.loads(done.output)] == [("a", "chat"), ("b", "two")]


def test_assume_device_plugin_needs_no_claim():
    (chat,) = json.loads(run("-", "-o", "json", "--assume", "device-plugin", stdin=document()).output)
    assert chat["decisions"]["allocation"]["value"] == "DevicePlugin"
    assert not [m for m in chat["manifests"] if m["kind"] == "ResourceClaim"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not YAML"),
        ("- 1", "every YAML document must be a Kubernetes object"),
        ("kind: Pod", "there is no object of kind DisaggregatedInference"),
        ("", "there is no object of kind DisaggregatedInference"),
        ("kind: DisaggregatedInference\nspec: {}", "metadata.name is missing"),
        (document(replicas="many"), "spec.replicas: "),
        (document(typo=1), "spec.typo: "),
        (document(kvTransfer={"nixl": {"transport": "CudaIPC"}}), "SharedPod"),
    ],
)
def test_a_bad_file_gets_a_clear_error(text: str, message: str):
    done = run("-", stdin=text)
    assert done.exit_code == 1
    assert message in done.output
    assert "Traceback" not in done.output
