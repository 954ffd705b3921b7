"""Content hashes that decide whether a cached product still stands for its inputs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

DIGEST_LENGTH = 16


def digest_of(facts: Iterable[str], files: Iterable[Path] = (), root: Path | None = None) -> str:
    """Hash strings and file contents into a short hexadecimal key.

    Files count by path (relative to `root` when given), executable bit and content, in sorted order, so the key is the
    same in any clone.
    """
    total = hashlib.sha256()
    for fact in facts:
        total.update(fact.encode() + b"\0")
    for path in sorted(files):
        name = path.relative_to(root) if root else path
        executable = "x" if path.stat().st_mode & 0o100 else "-"
        total.update(f"{name}\0{executable}\0".encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()[:DIGEST_LENGTH]


def files_under(folder: Path) -> list[Path]:
    """Every regular file below `folder`, without editor and interpreter leftovers."""
    return [p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
