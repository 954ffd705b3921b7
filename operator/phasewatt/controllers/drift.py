"""Whether a live object still is what was applied, without a request. Pure.

Two questions. Did the manifest change? Its hash is stamped on the live object. Did the live object change? Every field
of the manifest is looked up in it; defaults that the server adds are not looked at. Where the server rewrites a value
(a quantity of `1000m` comes back as `1`), the difference is remembered when it is first seen in an answer, and is drift
only once it changes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from phasewatt.kube.port import Manifest

HASH_ANNOTATION = "phasewatt.io/applied-hash"

Difference = tuple[str, Any]
"""Path of a field and its live value; `MISSING` where the live object lacks it."""

MISSING = "<missing>"


def stamped(manifest: Manifest) -> Manifest:
    """The manifest with its own hash as an annotation."""
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]
    metadata = manifest["metadata"]
    annotations = {**metadata.get("annotations", {}), HASH_ANNOTATION: digest}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def differences(wanted: Any, live: Any) -> tuple[Difference, ...]:
    """Fields of `wanted` that `live` lacks or has otherwise; lists are compared item by item and by length."""
    return tuple(_walk(wanted, live, ""))


def _walk(wanted: Any, live: Any, path: str) -> Iterator[Difference]:
    if isinstance(wanted, dict) and isinstance(live, dict):
        for key, value in wanted.items():
            if key in live:
                yield from _walk(value, live[key], f"{path}/{key}")
            elif not _is_zero(value):
                yield f"{path}/{key}", MISSING
    elif isinstance(wanted, list) and isinstance(live, list) and len(wanted) == len(live):
        for index, (mine, theirs) in enumerate(zip(wanted, live, strict=True)):
            yield from _walk(mine, theirs, f"{path}/{index}")
    elif wanted != live:
        yield path, live


def _is_zero(value: Any) -> bool:
    """Zero values that the server may leave out of what it stores (`omitempty`)."""
    return value is None or value is False or value in ("", 0) or value == {} or value == []
