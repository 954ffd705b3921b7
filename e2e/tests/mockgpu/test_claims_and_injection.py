from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phasewatt_mockgpu.claims import (
    ClaimError,
    ClaimRecords,
    PreparedClaim,
    PreparedDevice,
    prepared_claim,
    refuse_shared_devices,
)
from phasewatt_mockgpu.injection import CdiFolder, cdi_device_id, cdi_spec, mountable, request_variable
from phasewatt_mockgpu.inventory import NodeGpus

from .fake_cluster import FakeCluster

DNS_LABEL = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)


def env_of(spec: dict, *device_names: str) -> dict[str, str]:
    """Environment that the CDI library gives a container: the file's edits, then each device's, the last one wins."""
    edits = [spec["containerEdits"], *(d["containerEdits"] for d in spec["devices"] if d["name"] in device_names)]
    return dict(entry.split("=", 1) for edit in edits for entry in edit["env"])


def claim_of(*devices: tuple[str, str], uid: str = "0f1e", admin: bool = False) -> PreparedClaim:
    given_out = tuple(PreparedDevice(request=r, device=d, uuid=f"GPU-{d}", admin=admin) for r, d in devices)
    return PreparedClaim(uid=uid, namespace="ns", name=f"claim-{uid}", devices=given_out)


def test_a_container_sees_the_requests_it_takes() -> None:
    claim = claim_of(("prefill-0", "gpu-0"), ("decode-0", "gpu-1"), ("decode-0", "gpu-3"))
    spec = cdi_spec(claim, None)
    assert spec["kind"] == "mock.phasewatt.io/gpu"
    assert cdi_device_id(claim, claim.devices[0]) == "mock.phasewatt.io/gpu=0f1e-prefill-0-gpu-0"
    names = [device["name"] for device in spec["devices"]]
    assert env_of(spec, names[0]) == {"NVIDIA_VISIBLE_DEVICES": "void", "MOCK_GPU_PREFILL_0": "GPU-gpu-0"}
    assert env_of(spec, *names) == {
        "NVIDIA_VISIBLE_DEVICES": "void",
        "MOCK_GPU_PREFILL_0": "GPU-gpu-0",
        "MOCK_GPU_DECODE_0": "GPU-gpu-1,GPU-gpu-3",
    }


@given(DNS_LABEL, DNS_LABEL)
def test_request_variables_never_collide(one: str, other: str) -> None:
    assert (request_variable(one) == request_variable(other)) == (one == other)


def test_engine_environment_is_mounted_only_when_there_is_one(tmp_path: Path) -> None:
    folder = tmp_path / "engine-env"
    assert mountable(folder) is None
    folder.mkdir()
    assert mountable(folder) is None
    (folder / "vllm").mkdir()
    assert mountable(folder) == folder
    assert cdi_spec(claim_of(("r", "gpu-0")), folder)["containerEdits"]["mounts"] == [
        {"hostPath": str(folder), "containerPath": str(folder), "options": ["ro", "nosuid", "nodev", "rbind"]}
    ]


def test_cdi_folder_touches_only_its_own_files(tmp_path: Path) -> None:
    foreign = tmp_path / "k8s.gpu.nvidia.com-claim_1.json"
    foreign.write_text("{}")
    folder = CdiFolder(tmp_path)
    folder.write(claim_of(("r", "gpu-0"), uid="a"), None)
    assert folder.claim_uids() == {"a"}
    assert json.loads((tmp_path / "mock.phasewatt.io-gpu_a.json").read_text())["devices"][0]["name"] == "a-r-gpu-0"
    folder.remove("a")
    folder.remove("a")
    assert list(tmp_path.iterdir()) == [foreign]


def test_claim_becomes_devices_of_this_driver(cluster: FakeCluster, node: NodeGpus) -> None:
    claim = cluster.allocate("chat", "u1", ("prefill-0", "gpu-2"), ("decode-0/large", "gpu-3"))
    claim["status"]["allocation"]["devices"]["results"].append(
        {"driver": "nic.example.com", "pool": "x", "request": "nic", "device": "eth0"}
    )
    assert [(d.request, d.device, d.uuid) for d in prepared_claim(claim, node).devices] == [
        ("prefill-0", "gpu-2", node.dra[2].uuid),
        ("decode-0", "gpu-3", node.dra[3].uuid),
    ]


def test_claims_that_cannot_be_prepared_say_why(cluster: FakeCluster, node: NodeGpus) -> None:
    with pytest.raises(ClaimError, match="default/chat: worker-1/gpu-7 is not a GPU of this driver on node worker-1"):
        prepared_claim(cluster.allocate("chat", "u1", ("r", "gpu-7")), node)
    with pytest.raises(ClaimError, match="other-node/gpu-0 is not a GPU"):
        prepared_claim(cluster.allocate("chat", "u1", ("r", "gpu-0"), pool="other-node"), node)
    unallocated = {"metadata": {"namespace": "default", "name": "chat", "uid": "u1"}}
    with pytest.raises(ClaimError, match="not allocated"):
        prepared_claim(unallocated, node)


def test_a_gpu_is_prepared_for_one_claim_at_a_time() -> None:
    holder = claim_of(("r", "gpu-0"), uid="a")
    with pytest.raises(ClaimError, match="gpu-0 is still prepared for claim ns/claim-a"):
        refuse_shared_devices(claim_of(("r", "gpu-0"), uid="b"), [holder])
    refuse_shared_devices(claim_of(("r", "gpu-1"), uid="b"), [holder])
    refuse_shared_devices(claim_of(("r", "gpu-0"), uid="a"), [holder])
    refuse_shared_devices(claim_of(("r", "gpu-0"), uid="b", admin=True), [holder])
    refuse_shared_devices(holder, [claim_of(("r", "gpu-0"), uid="b", admin=True)])


def test_records_survive_and_damage_is_dropped(tmp_path: Path) -> None:
    records = ClaimRecords(tmp_path / "claims")
    records.load()
    records.add(claim_of(("r", "gpu-0"), uid="a"))
    (tmp_path / "claims" / "broken.json").write_text('{"uid": "b"')
    successor = ClaimRecords(tmp_path / "claims")
    successor.load()
    assert successor.all() == (claim_of(("r", "gpu-0"), uid="a"),)
    assert [p.name for p in (tmp_path / "claims").iterdir()] == ["a.json"]
    assert successor.discard("a") is not None
    assert successor.discard("a") is None
    assert list((tmp_path / "claims").iterdir()) == []
