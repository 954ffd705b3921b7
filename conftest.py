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
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the long groups first, so that the short tests fill the other processes meanwhile."""
    ranks = {item: len(TOGETHER) for item in items}
    for item in items:
        for rank, (place, name) in enumerate(TOGETHER.items()):
            if place == item.path or place in item.path.parents:
                item.add_marker(pytest.mark.xdist_group(name))
                ranks[item] = rank
    items.sort(key=ranks.__getitem__)
