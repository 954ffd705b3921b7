"""Whether a live object still is what was applied."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phasewatt.controllers.drift import HASH_ANNOTATION, MISSING, differences, stamped

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@given(JSON)
def test_nothing_differs_from_itself(value: Any) -> None:
    assert differences(value, value) == ()


@given(st.dictionaries(st.text(max_size=3), JSON, max_size=3), st.dictionaries(st.text(min_size=4), JSON, max_size=3))
def test_what_others_add_is_no_drift(wanted: dict[str, Any], more: dict[str, Any]) -> None:
    assert differences(wanted, wanted | more) == ()


@pytest.mark.parametrize(
    ("wanted", "live", "expected"),
    [
        ({"spec": {"replicas": 1}}, {"spec": {"replicas": 3}}, (("/spec/replicas", 3),)),
        ({"spec": {"replicas": 1}}, {"spec": {}}, (("/spec/replicas", MISSING),)),
        ({"c": [{"name": "a"}]}, {"c": [{"name": "a", "x": 1}]}, ()),
        ({"c": [{"name": "a"}]}, {"c": [{"name": "a"}, {"name": "b"}]}, (("/c", [{"name": "a"}, {"name": "b"}]),)),
        ({"cpu": "1000m"}, {"cpu": "1"}, (("/cpu", "1"),)),
        ({"a": "x"}, {"a": {"b": 1}}, (("/a", {"b": 1}),)),
    ],
)
def test_differences(wanted: Any, live: Any, expected: Any) -> None:
    assert differences(wanted, live) == expected


@pytest.mark.parametrize("zero", [None, "", 0, False, {}, []])
def test_the_server_may_leave_zero_values_out(zero: Any) -> None:
    assert differences({"value": zero}, {}) == ()


def test_the_stamp_depends_on_the_manifest_alone() -> None:
    one = {"kind": "Service", "metadata": {"name": "a", "annotations": {"k": "v"}}, "spec": {"x": 1, "y": 2}}
    same = {"spec": {"y": 2, "x": 1}, "metadata": {"annotations": {"k": "v"}, "name": "a"}, "kind": "Service"}
    other = {**one, "spec": {"x": 1}}
    assert stamped(one) == stamped(same)
    assert stamped(one)["metadata"]["annotations"]["k"] == "v"
    hashes = [stamped(m)["metadata"]["annotations"][HASH_ANNOTATION] for m in (one, other)]
    assert hashes[0] != hashes[1]
    assert HASH_ANNOTATION not in one["metadata"]["annotations"]
