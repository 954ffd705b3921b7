"""Health of each mock GPU: a small file that a test writes and the plugin watches."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from phasewatt_mockgpu.files import write_atomically

log = logging.getLogger(__name__)
POLL_SECONDS = 1.0


class Ailment(BaseModel):
    """Why a GPU is unhealthy. `evict`: running pods must leave it (taint NoExecute), else only new ones keep away."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    message: str
    since: datetime
    evict: bool = False


Ailments = Mapping[str, Ailment]
"""Unhealthy GPUs by device name; a GPU that is not listed is healthy."""
_FILE = TypeAdapter(dict[str, Ailment])


def read_ailments(path: Path) -> dict[str, Ailment]:
    """Unhealthy GPUs as the file says; no file means that all are healthy."""
    try:
        return _FILE.validate_json(path.read_bytes())
    except FileNotFoundError:
        return {}


def mark(path: Path, gpu: str, message: str | None, *, evict: bool = False) -> None:
    """Make `gpu` unhealthy with `message`, or healthy again with None."""
    ailments = read_ailments(path)
    ailments.pop(gpu, None)
    if message is not None:
        # Whole seconds: the API server stores the taint's time so, and a finer one would look like a change for ever.
        ailments[gpu] = Ailment(message=message, since=datetime.now(UTC).replace(microsecond=0), evict=evict)
    write_atomically(path, _FILE.dump_json(ailments, indent=2).decode())


class HealthBoard:
    """The present ailments, and a way to wait for the next change."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed = threading.Condition()
        self._version = 0
        self._ailments: Ailments = read_ailments(path)

    @property
    def ailments(self) -> Ailments:
        return self._ailments

    def refresh(self) -> bool:
        """Read the file again; True when something changed. An unreadable file keeps the last good state."""
        try:
            ailments = read_ailments(self._path)
        except (OSError, ValidationError) as error:
            log.error("health file ignored", extra={"path": str(self._path), "error": str(error)})
            return False
        if ailments == self._ailments:
            return False
        log.info("GPU health changed", extra={"unhealthy": {name: a.message for name, a in ailments.items()}})
        with self._changed:
            self._ailments = ailments
            self._version += 1
            self._changed.notify_all()
        return True

    def changes(self, still_wanted: threading.Event) -> Iterator[Ailments]:
        """The present ailments, then each later state, until `still_wanted` is cleared and `wake` is called."""
        seen = -1
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._version != seen or not still_wanted.is_set())  # noqa: B023
                if not still_wanted.is_set():
                    return
                seen, ailments = self._version, self._ailments
            yield ailments

    def wake(self) -> None:
        """Let every waiter look again whether it is still wanted."""
        with self._changed:
            self._changed.notify_all()
