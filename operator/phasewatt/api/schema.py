"""pydantic's JSON schema as a structural OpenAPI v3 schema, which is what a CRD may hold.

The API server refuses references, titles, nullable unions and closed objects (Kubernetes, "Specifying a structural
schema"). What cannot be said in that form raises here, when the CRD is generated, not at `kubectl apply`.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from phasewatt.api.base import VALIDATIONS, Rule

Schema = dict[str, Any]

_COPIED = (
    *("description", "type", "format", "enum", "default", "required"),
    *("pattern", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "maxProperties"),
    *("x-kubernetes-int-or-string", "x-kubernetes-list-type", "x-kubernetes-list-map-keys"),
)


def structural(model: type[BaseModel], *, defaults: bool) -> Schema:
    """The structural schema of a model.

    Args:
        model: top of the tree.
        defaults: whether the API server fills defaults in; a status is written whole by its controller and wants none.

    Raises:
        TypeError: the model uses something that a structural schema cannot say.
    """
    raw = model.model_json_schema(by_alias=True, mode="validation")
    return _Converter(raw.get("$defs", {}), defaults).convert(raw, model.__name__)


class _Converter:
    def __init__(self, definitions: dict[str, Schema], defaults: bool) -> None:
        self._definitions = definitions
        self._defaults = defaults

    def convert(self, raw: Schema, path: str) -> Schema:
        node = self._flat(raw, path)
        known = {*_COPIED, "title", "const", "properties", "items", "additionalProperties", VALIDATIONS, "$defs"}
        if unknown := node.keys() - known:
            raise TypeError(f"{path}: a structural schema cannot hold {', '.join(sorted(unknown))}")
        out: Schema = {key: node[key] for key in _COPIED if key in node}
        if "const" in node:
            out["enum"] = [node["const"]]
        if out.get("type") == "integer":
            out["format"] = "int64"
        if out.get("type") == "array":
            out.setdefault("x-kubernetes-list-type", "atomic")
            out["items"] = self.convert(node["items"], f"{path}[]")
        if out.get("type") == "object":
            out.update(self._members(node, path))
        self._settle_default(out, VALIDATIONS in node)
        if VALIDATIONS in node:
            out[VALIDATIONS] = node[VALIDATIONS]
        return out

    def _members(self, node: Schema, path: str) -> Schema:
        members = {name: self.convert(member, f"{path}.{name}") for name, member in node.get("properties", {}).items()}
        if members:
            return {"properties": members}
        values = node.get("additionalProperties")
        return {"additionalProperties": self.convert(values, f"{path}.*")} if isinstance(values, dict) else {}

    def _flat(self, raw: Schema, path: str) -> Schema:
        """Inline a reference and take the one type of an optional; what stands beside them wins."""
        node = dict(raw)
        if "$ref" in node:
            name = node.pop("$ref").rpartition("/")[2]
            node = _merged(self._flat(self._definitions[name], path), node)
        if "anyOf" in node:
            choices = [choice for choice in node.pop("anyOf") if choice.get("type") != "null"]
            if len(choices) != 1:
                raise TypeError(f"{path}: a union of types is not structural")
            node = _merged(self._flat(choices[0], path), node)
        if "patternProperties" in node:
            node = _merged(*_open_map(node, path))
        return node

    def _settle_default(self, out: Schema, rules: bool) -> None:
        if not self._defaults or out.get("default") is None:
            out.pop("default", None)
        elif out.get("type") == "object":
            # The server fills {} from the defaults of its members, so that each default is written once. But it checks
            # rules on a default as it is written, so one under rules is written out.
            written = {name: value for name, value in out["default"].items() if value not in (None, [], {})}
            out["default"] = written if rules else {}


def _merged(inner: Schema, outer: Schema) -> Schema:
    rules = [*inner.get(VALIDATIONS, []), *outer.get(VALIDATIONS, [])]
    return {**inner, **outer, **({VALIDATIONS: rules} if rules else {})}


def _open_map(node: Schema, path: str) -> tuple[Schema, Schema]:
    """A map whose keys have a pattern: the API server checks keys only by CEL."""
    if len(node["patternProperties"]) != 1:
        raise TypeError(f"{path}: the keys of a map must have one pattern")
    ((pattern, values),) = node.pop("patternProperties").items()
    longest = node.pop("propertyNames", {}).get("maxLength", 253)
    rule = Rule(
        f"self.all(k, k.matches('{pattern}') && size(k) <= {longest})",
        "every key must be an optional DNS prefix and a name, such as example.com/pool",
    )
    return {**node, "additionalProperties": values}, {VALIDATIONS: [rule.as_validation()]}
