"""JSON schemas for kubeconform, made from what API servers publish: nothing is downloaded.

Kubernetes' own kinds come from the OpenAPI of a running API server, custom kinds from their CRDs. Every object with
named properties is closed, so that a misspelt field is an error.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import yaml
from filelock import FileLock
from phasewatt_testbed.bare import BareControlPlane
from phasewatt_testbed.binaries import key
from phasewatt_testbed.paths import cache_dir

LOCATION = "{{.ResourceKind}}{{.KindSuffix}}.json"
"""kubeconform's name of a schema file: `deployment-apps-v1.json`, `service-v1.json`."""

REFERENCE = "#/components/schemas/"


def closed(node: Any) -> Any:
    """The schema with `additionalProperties: false` wherever properties are named and others are not allowed."""
    if isinstance(node, list):
        return [closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    result = {name: closed(value) for name, value in node.items()}
    named = isinstance(node.get("properties"), dict)
    open_by_wish = "additionalProperties" in node or node.get("x-kubernetes-preserve-unknown-fields")
    if named and node.get("type") == "object" and not open_by_wish:
        result["additionalProperties"] = False
    return result


def kubernetes_schemas() -> Path:
    """Folder with the schemas of all built-in kinds of the Kubernetes version that the testbed runs; made once."""
    home = cache_dir() / "schemas"
    folder = home / key("kube")
    home.mkdir(exist_ok=True)
    with FileLock(home / ".lock"):
        if not folder.exists():
            unfinished = Path(mkdtemp(dir=home))
            with BareControlPlane(unfinished / "plane") as plane:
                _write_kubernetes(plane, unfinished)
            shutil.rmtree(unfinished / "plane")
            for old in home.iterdir():
                if old.is_dir() and old != unfinished:
                    shutil.rmtree(old)
            unfinished.rename(folder)
    return folder


def write_custom_schemas(crd_files: Iterable[Path], folder: Path) -> None:
    """Write the schema of every version of every CRD in the files."""
    for file in crd_files:
        for crd in yaml.safe_load_all(file.read_text()):
            spec = crd["spec"]
            for version in spec["versions"]:
                schema = closed(version["schema"]["openAPIV3Schema"])
                # The API server adds these to every custom resource; in the CRD metadata is but an object.
                schema["properties"] |= {"apiVersion": {"type": "string"}, "kind": {"type": "string"}}
                schema["properties"]["metadata"] = {"type": "object"}
                _write(folder, spec["names"]["kind"], spec["group"], version["name"], schema)


def _write_kubernetes(plane: BareControlPlane, folder: Path) -> None:
    for path in plane.http.get("/openapi/v3").raise_for_status().json()["paths"]:
        if not path.startswith(("api/", "apis/")):
            continue
        document = closed(plane.http.get(f"/openapi/v3/{path}").raise_for_status().json())
        schemas = document.get("components", {}).get("schemas", {})
        definitions = f"{path.replace('/', '_')}.json"
        (folder / definitions).write_text(json.dumps({"components": {"schemas": schemas}}))
        for name, schema in schemas.items():
            for gvk in schema.get("x-kubernetes-group-version-kind", []):
                if path.endswith(gvk["version"]):
                    _write(folder, gvk["kind"], gvk["group"], gvk["version"], {"$ref": definitions + REFERENCE + name})


def _write(folder: Path, kind: str, group: str, version: str, schema: dict[str, Any]) -> None:
    suffix = f"{group.partition('.')[0]}-{version}" if group else version
    (folder / f"{kind.lower()}-{suffix}.json").write_text(json.dumps(schema))
