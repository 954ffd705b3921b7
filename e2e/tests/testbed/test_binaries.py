"""Pinned programs: versions agree with the module files they are said to come from; caching builds once and prunes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from phasewatt_testbed import binaries
from phasewatt_testbed.binaries import BINARIES, TOOLS, Binary
from phasewatt_testbed.errors import TestbedError


def required(module: str, path: str) -> str:
    match = re.search(rf"^\s*(?:require )?{re.escape(path)} (v\S+)", (TOOLS / module / "go.mod").read_text(), re.M)
    assert match, f"{path} is not in e2e/tools/{module}/go.mod"
    return match[1]


@pytest.mark.parametrize(
    ("module", "path", "stated"),
    [
        ("kubernetes", "k8s.io/kubernetes", binaries.KUBERNETES_VERSION),
        ("containerd", "github.com/containerd/containerd/v2", binaries.CONTAINERD_VERSION),
        ("helm", "helm.sh/helm/v4", binaries.HELM_VERSION),
    ],
)
def test_stamped_versions_are_the_pinned_ones(module: str, path: str, stated: str) -> None:
    assert required(module, path) == stated


def test_all_staging_modules_have_the_version_of_kubernetes() -> None:
    text = (TOOLS / "kubernetes" / "go.mod").read_text()
    staged = set(re.findall(r"^\s*k8s\.io/\S+ => k8s\.io/\S+ (v\S+)$", text, re.M))
    assert staged == {binaries.KUBERNETES_VERSION.replace("v1.", "v0.")}


def test_every_module_has_its_checksums() -> None:
    for module in {binary.module for binary in BINARIES.values()}:
        assert (TOOLS / module / "go.sum").exists(), module


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module of our own with one program, `tiny`, and an empty cache."""
    module = tmp_path / "tools" / "tiny"
    module.mkdir(parents=True)
    (module / "go.mod").write_text("module example.test/tiny\n\ngo 1.26.0\n")
    (module / "main.go").write_text('package main\n\nimport "os"\n\nfunc main() { println(os.Args[0]) }\n')
    monkeypatch.setattr(binaries, "TOOLS", tmp_path / "tools")
    monkeypatch.setattr(binaries, "BINARIES", {"tiny": Binary(module="tiny", package=".", aliases=("alias",))})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return module


def test_built_once_then_renewed_and_pruned_when_a_source_changes(tiny: Path) -> None:
    first = binaries.ensure("tiny")
    built_at = first.stat().st_mtime_ns
    assert binaries.ensure("tiny") == first
    assert first.stat().st_mtime_ns == built_at
    assert binaries.ensure("alias").resolve() == first
    (tiny / "main.go").write_text("package main\n\nfunc main() {}\n")
    second = binaries.ensure("tiny")
    assert second != first
    assert not first.exists()


def test_failed_build_leaves_nothing_and_tells_the_compilers_words(tiny: Path, tmp_path: Path) -> None:
    (tiny / "main.go").write_text("package main\n\nfunc main() { undefined() }\n")
    with pytest.raises(TestbedError, match="undefined: undefined"):
        binaries.ensure("tiny")
    assert not [path for path in (tmp_path / "cache" / "phasewatt" / "bin" / "tiny").rglob("*") if path.is_dir()]


def test_unknown_program_names_the_known_ones() -> None:
    with pytest.raises(TestbedError, match=r"no program named 'kubctl'; there are .*kube"):
        binaries.ensure("kubctl")
