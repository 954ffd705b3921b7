"""A running cluster, reached the way a user reaches it: kubectl and a kubeconfig."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

T = TypeVar("T")
Object = dict[str, Any]


class KubectlError(RuntimeError):
    """kubectl refused or failed; the message is what it printed."""


def until(description: str, probe: Callable[[], T | None], timeout: float, every: float = 0.5) -> T:
    """Poll until `probe` returns something truthy and return it.

    Args:
        description: what is waited for, for the error.
        timeout: seconds.
        every: seconds between two looks.

    Raises:
        TimeoutError: the deadline passed; the text names what was waited for.
    """
    retrying = Retrying(
        retry=retry_if_result(lambda found: not found), stop=stop_after_delay(timeout), wait=wait_fixed(every)
    )
    try:
        return retrying(probe)  # type: ignore[return-value]
    except RetryError as error:
        raise TimeoutError(f"not within {timeout:.0f} s: {description}") from error


@dataclass(frozen=True)
class Cluster:
    """A kubeconfig and the kubectl that goes with it."""

    kubeconfig: Path
    kubectl_path: Path

    def run(self, *args: str, stdin: str | None = None) -> str:
        """Run kubectl and return its standard output.

        Raises:
            KubectlError: kubectl exited with an error.
        """
        env = {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
        done = subprocess.run(
            [str(self.kubectl_path), *args], input=stdin, env=env, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise KubectlError(f"kubectl {' '.join(args)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def apply(self, *manifests: Object, namespace: str | None = None) -> None:
        text = yaml.safe_dump_all(manifests, sort_keys=False)
        self.run("apply", "--server-side", *_namespaced(namespace), "-f", "-", stdin=text)

    def get(self, kind: str, name: str, namespace: str | None = None) -> Object | None:
        """The object, or None where it does not exist."""
        text = self.run("get", kind, name, *_namespaced(namespace), "--ignore-not-found", "-o", "json")
        return json.loads(text) if text.strip() else None

    def list(self, kind: str, namespace: str | None = None, selector: str = "") -> list[Object]:
        text = self.run("get", kind, *_namespaced(namespace), "-l", selector, "-o", "json")
        items: list[Object] = json.loads(text)["items"]
        return items

    def delete(self, kind: str, name: str, namespace: str | None = None, *, wait: bool = True) -> None:
        self.run("delete", kind, name, *_namespaced(namespace), "--ignore-not-found", f"--wait={str(wait).lower()}")

    def condition(self, kind: str, name: str, namespace: str, type_: str) -> Object | None:
        """One condition of an object's status, or None where it is not there yet."""
        found = self.get(kind, name, namespace) or {}
        return next((c for c in found.get("status", {}).get("conditions", []) if c["type"] == type_), None)

    def wait_condition(
        self,
        name: str,
        namespace: str,
        type_: str,
        status: str = "True",
        *,
        reason: str | None = None,
        timeout: float = 120,
        kind: str = "dinf",
    ) -> Object:
        """Wait until a condition of the *present* generation has this status (and reason)."""

        def look() -> Object | None:
            found = self.get(kind, name, namespace) or {}
            generation = found.get("metadata", {}).get("generation")
            state = found.get("status", {})
            if state.get("observedGeneration") != generation:
                return None
            return next(
                (
                    c
                    for c in state.get("conditions", [])
                    if c["type"] == type_ and c["status"] == status and reason in (None, c["reason"])
                ),
                None,
            )

        wanted = f"{type_}={status}" + (f" ({reason})" if reason else "")
        try:
            return until(f"{namespace}/{name} {wanted}", look, timeout)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.story(name, namespace)}") from error

    def story(self, name: str, namespace: str) -> str:
        """What a user would look at when it does not work: the object's status, its pods and the latest events."""
        parts = []
        for args in (
            ("get", "dinf", name, "-o", "jsonpath={.status}"),
            ("get", "pods,deployments,resourceclaims", "-o", "wide"),
            ("get", "events", "--sort-by=.lastTimestamp"),
        ):
            try:
                parts.append(self.run(*args, "-n", namespace))
            except KubectlError as error:
                parts.append(str(error))
        return "\n".join(part[-4000:] for part in parts)

    @contextmanager
    def temporary_namespace(self, name: str, labels: dict[str, str] | None = None) -> Iterator[str]:
        """A namespace that lives as long as the block; its deletion is asked for, not awaited."""
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels or {}}})
        try:
            yield name
        finally:
            self.delete("namespace", name, wait=False)


def _namespaced(namespace: str | None) -> list[str]:
    return ["-n", namespace] if namespace else []
