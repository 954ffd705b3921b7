"""What is generated from the types is committed, complete and in the form that the API server takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from phasewatt.api import crd, reference
from phasewatt.api.base import VALIDATIONS, Base
from phasewatt.api.schema import structural
from phasewatt.api.v1alpha1 import RoleSpec, Spec
from pydantic import Field

REPO = Path(__file__).parents[4]


def members(schema: dict[str, Any], path: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every named member below a schema: its path, its name and its own schema."""
    inner = schema.get("items", schema)
    for name, member in inner.get("properties", {}).items():
        yield f"{path}.{name}", name, member
        yield from members(member, f"{path}.{name}")


ALL = [member for top in ("spec", "status") for member in members(crd.object_schema()["properties"][top], top)]


def test_the_committed_crd_is_what_the_types_say() -> None:
    assert (REPO / "crds" / crd.FILE).read_text() == crd.to_yaml(), "run `python -m phasewatt.api.crd`"


def test_the_committed_reference_is_what_the_types_say() -> None:
    assert (REPO / "docs" / "api.md").read_text() == reference.to_markdown(), "run `python -m phasewatt.api.reference`"


@pytest.mark.parametrize(("path", "name", "schema"), ALL, ids=[path for path, _, _ in ALL])
def test_every_field_teaches(path: str, name: str, schema: dict[str, Any]) -> None:
    description = schema.get("description", "")
    assert description.split(" ")[0].rstrip(":.,") == name, "a description begins with the field's JSON name"
    assert description.endswith((".", "`.")), "and is made of sentences"


@pytest.mark.parametrize(("path", "name", "schema"), ALL, ids=[path for path, _, _ in ALL])
def test_every_optional_field_of_the_spec_tells_its_default_or_its_absence(
    path: str, name: str, schema: dict[str, Any]
) -> None:
    default = schema.get("default")
    if not path.startswith("spec") or default is None:
        return
    if not isinstance(default, dict):
        assert f"Default: {str(default).lower() if isinstance(default, bool) else default}" in schema["description"]


@pytest.mark.parametrize(("path", "name", "schema"), ALL, ids=[path for path, _, _ in ALL])
def test_everything_is_bounded_so_that_rules_have_a_known_cost(path: str, name: str, schema: dict[str, Any]) -> None:
    bound = {"string": "maxLength", "array": "maxItems"}.get(schema.get("type", ""))
    if "enum" in schema or schema.get("format") == "date-time":
        return
    assert bound is None or bound in schema
    assert "additionalProperties" not in schema or "maxProperties" in schema


def test_both_roles_of_a_pair_have_the_members_of_a_role() -> None:
    spec = structural(Spec, defaults=True)["properties"]
    role = structural(RoleSpec, defaults=True)["properties"]
    assert spec["prefill"]["properties"] == spec["decode"]["properties"] == spec["colocated"]["properties"] == role


def test_a_default_under_rules_is_written_out_and_any_other_is_left_to_its_members() -> None:
    spec = structural(Spec, defaults=True)["properties"]
    assert VALIDATIONS in spec["gpus"]
    assert spec["gpus"]["default"] == {
        "allocation": "Auto",
        "deviceClassName": "gpu.nvidia.com",
        "resourceName": "nvidia.com/gpu",
        "pairing": "Auto",
    }
    assert spec["kvTransfer"]["default"] == {}


def test_a_status_has_no_defaults_because_its_controller_writes_it_whole() -> None:
    status = crd.object_schema()["properties"]["status"]
    assert not [path for path, _, schema in members(status, "status") if "default" in schema]


class TwoTypes(Base):
    either: int | str = Field(description="either of two.")


class Closed(Base):
    pair: tuple[int, int] = Field((1, 2), description="pair of numbers.")


@pytest.mark.parametrize("model", [TwoTypes, Closed])
def test_what_a_structural_schema_cannot_say_is_refused_when_it_is_generated(model: type[Base]) -> None:
    with pytest.raises(TypeError, match=rf"{model.__name__}\.(either|pair): "):
        structural(model, defaults=True)
