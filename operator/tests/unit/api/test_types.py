"""The types as Python sees them."""

from __future__ import annotations

import pytest
from phasewatt.api.v1alpha1 import Allocation, DisaggregatedInference, Mode, Role, Spec
from pydantic import ValidationError

SMALLEST = {"model": {"name": "meta-llama/Llama-3.2-3B-Instruct"}}


def test_the_smallest_object_is_one_prefill_and_one_decode_engine() -> None:
    spec = Spec.model_validate(SMALLEST)
    assert spec.mode is Mode.DISAGGREGATED
    assert {role: (part.engines, part.tensor_parallel_size) for role, part in spec.roles().items()} == {
        Role.PREFILL: (1, 1),
        Role.DECODE: (1, 1),
    }


def test_colocated_mode_has_colocated_engines_only() -> None:
    spec = Spec.model_validate({**SMALLEST, "mode": "Colocated", "colocated": {"engines": 2}})
    assert {role: part.engines for role, part in spec.roles().items()} == {Role.COLOCATED: 2}


def test_the_choice_none_is_a_value_and_not_an_absence() -> None:
    spec = Spec.model_validate({**SMALLEST, "gpus": {"allocation": "None"}})
    assert spec.gpus.allocation is Allocation.NONE


def test_json_names_are_those_of_kubernetes() -> None:
    spec = Spec.model_validate(
        {**SMALLEST, "security": {"allowHostPID": True}, "kvTransfer": {"onLoadFailure": "Fail"}}
    )
    dumped = spec.model_dump(by_alias=True, exclude_none=True)
    assert dumped["security"] == {"allowHostPID": True}
    assert dumped["kvTransfer"]["onLoadFailure"] == "Fail"
    assert Spec.model_validate(dumped) == spec


@pytest.mark.parametrize(("written", "read"), [(4, "4"), ("500m", "500m"), ("16Gi", "16Gi")])
def test_a_quantity_may_be_written_as_a_number(written: object, read: str) -> None:
    spec = Spec.model_validate({**SMALLEST, "decode": {"resources": {"requests": {"cpu": written}}}})
    assert spec.decode is not None
    assert spec.decode.resources is not None
    assert spec.decode.resources.requests == {"cpu": read}


@pytest.mark.parametrize("wrong", [True, 1.5, "5ki", "ten", "-1", "1 Gi"])
def test_what_is_no_quantity_is_refused(wrong: object) -> None:
    with pytest.raises(ValidationError):
        Spec.model_validate({**SMALLEST, "engine": {"sharedMemory": wrong}})


def test_a_misspelt_field_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match=r"prefil\n"):
        Spec.model_validate({**SMALLEST, "prefil": {}})


def test_an_object_with_metadata_of_the_server_is_read() -> None:
    obj = DisaggregatedInference.model_validate(
        {
            "apiVersion": "phasewatt.io/v1alpha1",
            "kind": "DisaggregatedInference",
            "metadata": {"uid": "1"},
            "spec": SMALLEST,
        }
    )
    assert obj.spec.model.name == SMALLEST["model"]["name"]
    assert obj.status is None
