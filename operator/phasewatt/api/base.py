"""What every type of the API is made of: the model base, CEL rules as annotations, and the checked scalar types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetJsonSchemaHandler, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

VALIDATIONS = "x-kubernetes-validations"

Reason = Literal["FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired", "FieldValueDuplicate"]


@dataclass(frozen=True)
class Rule:
    """One CEL rule that the API server checks at every write (Kubernetes, "CRD validation rules").

    Used as a member of `Base.rules`, where `self` is the object, or inside `Annotated`, where `self` is the field.

    Args:
        rule: CEL expression that is true for a good value.
        message: what to change, in one sentence; it reaches the user through `kubectl apply`.
        reason: kind of mistake, for clients. `FieldValueForbidden` keeps the value itself out of the answer.
        field_path: the member to blame when the rule belongs to the object around it, such as `.colocated`.
    """

    rule: str
    message: str
    reason: Reason = "FieldValueInvalid"
    field_path: str = ""

    def as_validation(self) -> dict[str, str]:
        """The entry of `x-kubernetes-validations`."""
        entry = {"rule": self.rule, "message": self.message, "reason": self.reason, "fieldPath": self.field_path}
        return {key: value for key, value in entry.items() if value}

    def __get_pydantic_json_schema__(self, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return Rules((self,)).__get_pydantic_json_schema__(core_schema, handler)


@dataclass(frozen=True)
class Rules:
    """Several rules on one field."""

    rules: tuple[Rule, ...]

    def __get_pydantic_json_schema__(self, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core_schema)
        entries = [rule.as_validation() for rule in self.rules]
        return {**schema, VALIDATIONS: [*schema.get(VALIDATIONS, []), *entries]}


class Base(BaseModel):
    """camelCase in JSON, snake_case in Python; unknown fields are refused; values are immutable."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)

    rules: ClassVar[tuple[Rule, ...]] = ()
    """CEL rules on the object as a whole."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core_schema)
        if cls.rules:
            handler.resolve_ref_schema(schema)[VALIDATIONS] = [rule.as_validation() for rule in cls.rules]
        return schema


def list_map(key: str) -> dict[str, Any]:
    """Schema extension: list items are told apart by this member, so two writers can own different items."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


LIST_SET: dict[str, Any] = {"x-kubernetes-list-type": "set"}


def _text(value: object) -> object:
    # YAML users write `cpu: 4`; Kubernetes' own quantities take numbers too. bool is an int to Python only.
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _int_or_string(pattern: str) -> dict[str, Any]:
    return {"x-kubernetes-int-or-string": True, "pattern": pattern, "maxLength": 32, "minimum": 0}


_NUMBER = r"^[0-9]+(\.[0-9]+)?"
_SUFFIX = r"(k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"
_QUANTITY = _NUMBER + _SUFFIX.replace("(k", "(m|k")
_BYTES = _NUMBER + _SUFFIX

Quantity = Annotated[
    str,
    Field(pattern=_QUANTITY, max_length=32),
    BeforeValidator(_text),
    WithJsonSchema(_int_or_string(_QUANTITY)),
]
"""A Kubernetes quantity, such as `500m`, `2` or `16Gi`."""

Bytes = Annotated[
    str,
    Field(pattern=_BYTES, max_length=32),
    BeforeValidator(_text),
    WithJsonSchema(_int_or_string(_BYTES)),
    Rule("quantity(string(self)).compareTo(quantity('0')) > 0", "must be more than zero bytes, such as 2Gi"),
]
"""An amount of memory above zero, as a Kubernetes quantity in bytes."""

Duration = Annotated[
    str,
    Field(pattern=r"^([0-9]+h)?([0-9]+m)?([0-9]+s)?$", min_length=2, max_length=16),
    Rule("duration(self) <= duration('24h')", "must be at most 24h, such as 90s, 2m or 1h30m"),
]
"""Hours, minutes and seconds, in this order, such as `1h30m` or `0s`."""

Arg = Annotated[str, Field(min_length=1, max_length=4096)]
Image = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^\S+$")]
Name = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
LabelKey = Annotated[
    str, Field(max_length=317, pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$")
]
LabelValue = Annotated[str, Field(max_length=63, pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$")]
