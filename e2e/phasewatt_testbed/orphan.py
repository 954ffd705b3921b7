"""Finds and ends a `kind create` that outlived the testbed process which started it.

kind runs in a process group of its own, recorded on disk with its start time: after a `kill -9` of the testbed nothing
else would tell a leftover child of ours from a stranger that got the same number.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from phasewatt_testbed.errors import TestbedError
from phasewatt_testbed.shell import TAIL_LINES

_START_TIME = 19
"""Index of `starttime` in /proc/PID/stat after the command name (proc_pid_stat(5), field 22)."""


def run_recorded(command: Sequence[str | Path], record: Path, log: Path, env: Mapping[str, str]) -> None:
    """Run a command in its own process group, with its group recorded in `record` and its output in `log`.

    Raises:
        TestbedError: it exited non-zero; with the last lines of its output.
    """
    record.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        child = subprocess.Popen(
            [str(word) for word in command],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(env),
            start_new_session=True,
        )
        record.write_text(json.dumps({"group": child.pid, "started": started_at(child.pid)}))
        try:
            code = child.wait()
        except BaseException:
            end_recorded(record)
            child.wait()
            raise
    record.unlink()
    if code != 0:
        tail = "\n".join(log.read_text().splitlines()[-TAIL_LINES:])
        raise TestbedError(f"`{Path(str(command[0])).name} {' '.join(map(str, command[1:]))}` failed:\n{tail}")


def end_recorded(record: Path) -> bool:
    """End the recorded process group, if it is still the one that was recorded. Returns whether something was ended."""
    try:
        known = json.loads(record.read_text())
    except (FileNotFoundError, ValueError):
        return False
    group = int(known["group"])
    now = started_at(group)
    ended = False
    # A group whose leader has gone keeps its number out of use, so only a living leader can be a stranger.
    if now is None or now == known["started"]:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
            ended = True
    record.unlink(missing_ok=True)
    return ended


def started_at(pid: int) -> int | None:
    """Start time of a process in clock ticks after boot; None when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(stat.rpartition(")")[2].split()[_START_TIME])
