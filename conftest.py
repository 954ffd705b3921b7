"""Settings of the whole test suite."""

from pathlib import Path

import pytest
from hypothesis import settings

# A shared machine may stop any example for seconds: how long one takes says nothing about correctness.
settings.register_profile("phasewatt", deadline=None)
settings.load_profile("phasewatt")

E2E = Path(__file__).parent / "e2e" / "tests"

TOGETHER = {
    E2E / "cluster": "cluster",
    E2E / "testbed" / "test_lifecycle.py": "lifecycle",
    E2E / "engine_cpu": "engines",
    E2E.parents[1] / "operator" / "tests" / "chart": "chart",
}
"""What shares something dear (a cluster, engines, a control plane) and so runs in one test process, longest first."""


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With several test processes: start the long groups first, so that the short tests fill the others meanwhile."""
    if not config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        return
    ranks = {item: len(TOGETHER) for item in items}
    for item in items:
        for rank, (place, name) in enumerate(TOGETHER.items()):
            if place == item.path or place in item.path.parents:
                item.add_marker(pytest.mark.xdist_group(name))
                ranks[item] = rank
    items.sort(key=ranks.__getitem__)


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Show a failure when it happens: the end of a run may be a quarter of an hour away."""
    if report.failed and TERMINAL:
        TERMINAL[0].write_line(f"\nFAILED {report.nodeid} ({report.when})\n{report.longreprtext}")


TERMINAL: list[pytest.TerminalReporter] = []


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Remember where to write; test processes have no terminal."""
    if reporter := config.pluginmanager.get_plugin("terminalreporter"):
        TERMINAL[:] = [reporter]
