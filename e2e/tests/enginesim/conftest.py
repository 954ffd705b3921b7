"""Servers that several tests share; a test that breaks a server starts its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .server_process import SimServer, running, transfer_config


@pytest.fixture(scope="module")
def colocated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimServer]:
    """One engine without a KV connector."""
    with running(tmp_path_factory.mktemp("colocated"), "--max-model-len", "8192") as server:
        yield server


@pytest.fixture(scope="module")
def prefill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimServer]:
    """A prefill engine with NIXL."""
    with running(tmp_path_factory.mktemp("prefill"), "--kv-transfer-config", transfer_config("producer")) as server:
        yield server


@pytest.fixture(scope="module")
def decode(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimServer]:
    """A decode engine with NIXL that fails requests whose KV it cannot load."""
    with running(tmp_path_factory.mktemp("decode"), "--kv-transfer-config", transfer_config("consumer")) as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a test's own servers log."""
    return tmp_path
