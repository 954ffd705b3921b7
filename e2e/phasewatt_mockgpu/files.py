"""Atomic file replacement: a reader sees the old content or the new one, never a part."""

from __future__ import annotations

import os
from pathlib import Path


def write_atomically(path: Path, text: str) -> None:
    """Replace `path` by `text`, durable across a crash of the process.

    The temporary name starts with a dot and has no known suffix, so that a folder watcher (the container runtime on the
    CDI folder) never parses an unfinished file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
