"""A real cluster of its own: made, used, broken and removed; nothing of it may be left after any of that.

The checks ask the engine and the kernel, not the testbed's own idea of what it removed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from phasewatt_testbed import teardown
from phasewatt_testbed.engine import Engine, detect
from phasewatt_testbed.nodes import kubectl
from phasewatt_testbed.paths import ClusterPaths

NAME = "phasewatt-lifecycle"
COMMAND = ["phasewatt-testbed"]
STEP_SECONDS = 420
"""Limit of one command; an idle machine needs a tenth of it."""

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


def command_line(*arguments: str) -> str:
    command = [*COMMAND, *arguments, "--name", NAME]
    done = subprocess.run(command, capture_output=True, text=True, timeout=STEP_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def up() -> str:
    return command_line("up", "--workers", "1", "--no-gpus")


@pytest.fixture
def engine() -> Engine:
    return detect()


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    command_line("down")
    yield
    command_line("down")


def processes_of(engine: Engine) -> list[int]:
    """Host process ids of all that runs in the cluster's node containers, and of what watches over those."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    inits = [int(engine("inspect", "--format", "{{.State.Pid}}", name)) for name in teardown.containers(engine, NAME)]
    found = {parents[init] for init in inits}
    while grown := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= grown
    return sorted(found)


def cgroups_of(engine: Engine) -> list[Path]:
    ids = [engine("inspect", "--format", "{{.Id}}", name).strip() for name in teardown.containers(engine, NAME)]
    return [group for each in ids for group in teardown.CGROUPS.glob(f"**/*{each}*") if group.is_dir()]


def left_behind(engine: Engine) -> list[str]:
    """Whatever still carries the cluster's name: containers, volumes, networks, processes, mounts, files."""
    left = teardown.containers(engine, NAME)
    left += [line for line in engine("volume", "ls", "--format", "{{.Name}} {{.Labels}}").splitlines() if NAME in line]
    left += [name for name in engine("network", "ls", "--format", "{{.Name}}").split() if NAME in name]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if NAME in words and not any(word in words for word in ("pytest", "bash")):
                left.append(f"process {words}")
    left += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if NAME in line]
    return left + ([str(ClusterPaths(NAME).root)] if ClusterPaths(NAME).root.exists() else [])


def until(condition: Callable[[], bool], what: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)


def test_up_twice_then_killed_then_up_then_down(engine: Engine) -> None:
    up()
    created = containers_started(engine)
    assert "kind create" not in up(), "a working cluster must be left as it is"
    assert containers_started(engine) == created

    pids, killed_groups = processes_of(engine), cgroups_of(engine)
    assert pids
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # ended with the init of its namespace
            os.kill(pid, signal.SIGKILL)
    assert "made anew" in up()
    nodes = kubectl(ClusterPaths(NAME).kubeconfig, "get", "nodes", "-o", "name").split()
    assert len(nodes) == 2

    pids, groups = processes_of(engine), cgroups_of(engine)
    command_line("down")
    assert left_behind(engine) == []
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert not [group for group in killed_groups + groups if group.exists()]
    assert "there was no cluster" in command_line("down")


def containers_started(engine: Engine) -> list[str]:
    names = teardown.containers(engine, NAME)
    return [engine("inspect", "--format", "{{.State.StartedAt}}", name) for name in names]


@pytest.mark.parametrize("moment", ["kind has started", "a node exists", "the API server is being set up"])
def test_kill_minus_nine_of_the_testbed_then_down(engine: Engine, moment: str) -> None:
    reached: dict[str, Callable[[], bool]] = {
        "kind has started": lambda: ClusterPaths(NAME).kind_record.exists(),
        "a node exists": lambda: bool(teardown.containers(engine, NAME)),
        "the API server is being set up": lambda: "Starting control-plane" in kind_log(),
    }
    with subprocess.Popen(
        [*COMMAND, "up", "--name", NAME, "--workers", "1", "--no-gpus"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as starter:
        until(reached[moment], moment, STEP_SECONDS)
        starter.kill()
    command_line("down")
    assert left_behind(engine) == []


def kind_log() -> str:
    try:
        return ClusterPaths(NAME).kind_log.read_text()
    except FileNotFoundError:
        return ""


def test_failed_up_leaves_nothing(engine: Engine, tmp_path: Path) -> None:
    # A node image without an init cannot become a node, so kind fails after it has made containers.
    wrapper = tmp_path / "up_with_a_broken_node_image.py"
    wrapper.write_text(
        "from phasewatt_testbed import cluster\n"
        "from phasewatt_testbed.debian import ensure_base\n"
        "from phasewatt_testbed.engine import DEBIAN_BASE, detect, registry_answers\n"
        "registry_answers() or ensure_base(detect())\n"
        "cluster.ensure_node_image = lambda engine: DEBIAN_BASE\n"
        f"cluster.Testbed({NAME!r}, 1, False).up()\n"
    )
    done = subprocess.run(["python", wrapper], capture_output=True, text=True, timeout=STEP_SECONDS, check=False)
    assert done.returncode != 0
    assert "kind create cluster" in done.stderr
    assert left_behind(engine) == []
