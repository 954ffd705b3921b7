from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from phasewatt_mockgpu.main import main
from phasewatt_mockgpu.plugin import Settings

from .fake_cluster import MANIFESTS, NODE


def arguments(settings: Settings, *rest: str) -> list[str]:
    folder = str(settings.kubelet_folder)
    return ["--node", NODE, "--inventory", str(settings.inventory), "--kubelet-folder", folder, *rest]


def test_fail_and_heal_write_the_health_file(settings: Settings) -> None:
    result = CliRunner().invoke(main, arguments(settings, "fail", "gpu-1", "Xid 79", "--evict"))
    assert result.exit_code == 0, result.output
    (name, ailment), *rest = json.loads(settings.health_file.read_text()).items()
    assert (name, ailment["message"], ailment["evict"], rest) == ("gpu-1", "Xid 79", True, [])
    assert CliRunner().invoke(main, arguments(settings, "heal", "gpu-1")).exit_code == 0
    assert json.loads(settings.health_file.read_text()) == {}


def test_a_gpu_that_is_not_there_is_named(settings: Settings) -> None:
    result = CliRunner().invoke(main, arguments(settings, "fail", "gpu-9", "Xid 79"))
    assert result.exit_code == 2
    assert "node worker-1 has gpu-0, gpu-1, gpu-2, gpu-3" in result.output
    assert not settings.health_file.exists()


def test_a_bad_inventory_is_one_line(settings: Settings) -> None:
    settings.inventory.write_text("default: {}")
    result = CliRunner().invoke(main, arguments(settings, "fail", "gpu-0", "Xid 79"))
    assert result.exit_code == 1
    assert "default.driverVersion: Field required" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("path", sorted(MANIFESTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_manifests_are_namespaced_where_they_should_be(path: Path) -> None:
    for document in yaml.safe_load_all(path.read_text()):
        if document["kind"] in {"ServiceAccount", "ConfigMap", "DaemonSet"}:
            assert document["metadata"]["namespace"] == "phasewatt-mockgpu"


def test_the_daemonset_mounts_every_folder_that_the_plugin_uses_by_default() -> None:
    (daemonset,) = yaml.safe_load_all((MANIFESTS / "40-daemonset.yaml").read_text())
    pod = daemonset["spec"]["template"]["spec"]
    mounts = {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    defaults = {option.name: Path(str(option.default)) for option in main.params if option.default}
    needed = [
        defaults["inventory"],
        defaults["cdi_folder"],
        defaults["engine_environment"],
        *(defaults["kubelet_folder"] / name for name in ("plugins", "plugins_registry", "device-plugins")),
    ]
    for path in needed:
        assert any(str(parent) in mounts for parent in (path, *path.parents)), path
