"""A wrong value is refused with a sentence; every value is documented with its default."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from helm_chart import CHART, HelmError, render

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())


def leaves(schema: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Documented values: those with a description, by path."""
    for name, child in schema["properties"].items():
        if "description" in child:
            yield (*path, name), child
        else:
            yield from leaves(child, (*path, name))


LEAVES = dict(leaves(SCHEMA))


def default_of(path: tuple[str, ...]) -> Any:
    value = DEFAULTS
    for name in path:
        value = value[name]
    return value


def readme_table() -> str:
    rows = [
        f"| `{'.'.join(path)}` | `{json.dumps(default_of(path))}` | {schema['description']} |"
        for path, schema in LEAVES.items()
        if path != ("global",)
    ]
    return "\n".join(["| Value | Default | Meaning |", "|---|---|---|", *rows])


def test_the_readme_has_the_table_that_schema_and_defaults_give() -> None:
    assert readme_table() in (CHART / "README.md").read_text(), f"put this table into README.md:\n{readme_table()}"


def test_the_schema_knows_every_default() -> None:
    def paths(values: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
        for name, value in values.items():
            here = (*path, name)
            if here in LEAVES or not isinstance(value, dict):
                yield here
            else:
                yield from paths(value, here)

    assert set(paths(DEFAULTS)) == set(LEAVES) - {("global",)}


def test_every_object_of_the_schema_that_names_its_properties_is_closed() -> None:
    def open_ones(node: Any, path: str = "") -> Iterator[str]:
        if isinstance(node, dict):
            if "properties" in node and node.get("additionalProperties") is not False and path:
                yield path
            for name, child in node.items():
                yield from open_ones(child, f"{path}/{name}")

    assert SCHEMA["additionalProperties"] is False
    assert not list(open_ones(SCHEMA["properties"], "properties"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"watchNamespace": ["a"]}, "additional properties 'watchNamespace' not allowed"),
        ({"image": {"pullpolicy": "Always"}}, "additional properties 'pullpolicy' not allowed"),
        ({"metrics": {"podMonitor": {"enable": True}}}, "additional properties 'enable' not allowed"),
        ({"image": {"pullPolicy": "Sometimes"}}, "value must be one of 'Always', 'IfNotPresent', 'Never'"),
        ({"logLevel": "verbose"}, "value must be one of 'debug', 'info', 'warning', 'error'"),
        ({"workers": 0}, "minimum: got 0, want 1"),
        ({"workers": "4"}, "got string, want integer"),
        ({"watchNamespaces": "a,b"}, "got string, want array"),
        ({"watchNamespaces": ["Team_A"]}, "does not match pattern"),
        ({"watchNamespaces": ["a", "a"]}, "items at 0 and 1 are equal"),
        ({"crds": {"enabled": "false"}}, "got string, want boolean"),
        ({"serviceAccount": {"create": False}}, "serviceAccount.name must name an existing ServiceAccount"),
    ],
)
def test_a_wrong_value_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(HelmError, match=message):
        render(values)


def test_values_for_all_charts_are_let_through() -> None:
    assert render({"global": {"anything": 1}})
