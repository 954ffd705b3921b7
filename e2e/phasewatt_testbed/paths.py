"""Where the testbed keeps things: the checkout it works for and the cache folder it owns."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from filelock import BaseFileLock, FileLock

REPO = Path(__file__).resolve().parents[2]
E2E = REPO / "e2e"


def cache_dir() -> Path:
    """The project's cache folder (XDG base directory specification), created when absent."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    path = Path(base) / "phasewatt"
    path.mkdir(parents=True, exist_ok=True)
    return path


def scratch_dir() -> Path:
    """For unfinished work; whatever is left here by a killed build is swept by the last `down`."""
    path = cache_dir() / "scratch"
    path.mkdir(exist_ok=True)
    return path


def build_lock() -> BaseFileLock:
    """Held while images are built or loaded: nobody replaces an archive or sweeps the storage under such work.

    Re-entrant within one process.
    """
    return FileLock(cache_dir() / ".build.lock", is_singleton=True)


@dataclass(frozen=True)
class ClusterPaths:
    """Files of one named cluster."""

    name: str

    @property
    def root(self) -> Path:
        """The folder that belongs to this cluster alone."""
        return cache_dir() / "testbed" / self.name

    @property
    def kubeconfig(self) -> Path:
        """Administrator credentials of the cluster, also for `kubectl` by hand."""
        return self.root / "kubeconfig"

    @property
    def kind_config(self) -> Path:
        """The kind v1alpha4 document that the cluster was made from."""
        return self.root / "kind.yaml"

    @property
    def kind_record(self) -> Path:
        """Says which process group creates the cluster, while it does."""
        return cache_dir() / "testbed" / f".{self.name}.kind"

    @property
    def kind_log(self) -> Path:
        """What kind printed while it created the cluster."""
        return self.root / "kind.log"

    @property
    def lock(self) -> Path:
        """Taken by every command that changes the cluster; it outlives the cluster's own folder."""
        return cache_dir() / "testbed" / f".{self.name}.lock"
