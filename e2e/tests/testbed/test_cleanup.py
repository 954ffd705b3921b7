"""Ending and removing only what is ours, on real processes and folders."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from phasewatt_testbed import orphan
from phasewatt_testbed.errors import TestbedError
from phasewatt_testbed.teardown import our_mounts, remove_cgroups

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]


def until(condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(SLEEPER, start_new_session=True) as process:
        yield process
        process.kill()


def test_recorded_child_of_a_killed_starter_is_ended(tmp_path: Path) -> None:
    record = tmp_path / "record"
    script = (
        "import sys, os; from pathlib import Path; from phasewatt_testbed.orphan import run_recorded; "
        f"run_recorded({SLEEPER!r}, Path({str(record)!r}), Path({str(tmp_path / 'log')!r}), os.environ)"
    )
    starter = subprocess.Popen([sys.executable, "-c", script])
    until(lambda: record.exists() and record.read_text().endswith("}"), "the child is recorded")
    starter.kill()
    starter.wait()
    group = json.loads(record.read_text())["group"]
    assert orphan.started_at(group) is not None, "the child should outlive its starter"
    assert orphan.end_recorded(record) is True
    until(lambda: not Path(f"/proc/{group}/cmdline").exists() or zombie(group), "the child has ended")
    assert not record.exists()


def zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_stranger_with_the_same_number_is_left_alone(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    started = orphan.started_at(sleeper.pid)
    assert started is not None
    record = tmp_path / "record"
    record.write_text(json.dumps({"group": sleeper.pid, "started": started - 1}))
    assert orphan.end_recorded(record) is False
    assert sleeper.poll() is None
    assert not record.exists()


def test_nothing_recorded_is_nothing_to_end(tmp_path: Path) -> None:
    assert orphan.end_recorded(tmp_path / "record") is False


def test_failing_command_tells_its_last_lines(tmp_path: Path) -> None:
    command = ["sh", "-c", "echo the cause; exit 3"]
    with pytest.raises(TestbedError, match="the cause"):
        orphan.run_recorded(command, tmp_path / "record", tmp_path / "log", os.environ)
    assert not (tmp_path / "record").exists()


def test_only_mounts_below_our_folders_deepest_first() -> None:
    mountinfo = "\n".join(
        f"36 35 98:0 / {point} rw,noatime - ext4 /dev/root rw"
        for point in (
            "/",
            "/cache",
            "/cache/containers/a",
            "/cache/containers/a/b",
            "/cache/containers-of-others",
            "/run/x",
        )
    )
    assert our_mounts(mountinfo, [Path("/cache/containers")]) == ["/cache/containers/a/b", "/cache/containers/a"]


def test_cgroups_of_podman_go_and_others_stay(tmp_path: Path) -> None:
    for name in ("cpu/libpod_parent/libpod-1/kubelet", "unified/libpod_parent", "cpu/docker/1"):
        (tmp_path / name).mkdir(parents=True)
    removed = remove_cgroups(tmp_path.glob("*/libpod_parent"))
    assert sorted(removed) == [tmp_path / "cpu/libpod_parent", tmp_path / "unified/libpod_parent"]
    assert not (tmp_path / "cpu/libpod_parent").exists()
    assert (tmp_path / "cpu/docker/1").is_dir()


def test_cgroups_of_a_living_container_stay_whole(tmp_path: Path) -> None:
    busy, empty = tmp_path / "cpu/libpod_parent/libpod-1", tmp_path / "cpu/libpod_parent/libpod-1/kubelet/pod"
    empty.mkdir(parents=True)
    (busy / "cgroup.procs").write_text("4711\n")
    assert remove_cgroups([busy.parent]) == []
    assert empty.is_dir()
