"""A real Prometheus finds operator, routers and engines by the discovery that the documentation gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from phasewatt_suite.cluster import Cluster, until
from phasewatt_suite.install import Release
from phasewatt_suite.objects import inference
from phasewatt_suite.prometheus import NAMESPACE, Prometheus, deploy
from phasewatt_suite.serving import Served

Serve = Callable[..., Served]


@pytest.fixture
def prometheus(cluster: Cluster, release: Release, http: Any) -> Iterator[Prometheus]:
    yield deploy(cluster, http)
    cluster.delete("namespace", NAMESPACE, wait=False)


def test_operator_router_and_engine_series_arrive(served: Serve, prometheus: Prometheus) -> None:
    chat = served(inference())
    for i in range(4):
        chat.text(f"{i} words to prefill " * 20, 4)

    def value(query: str) -> float:
        return until(f"a value of {query}", lambda: prometheus.query(query), 60)

    where = f'namespace="{chat.namespace}"'
    assert value(f'sum(vllm:prompt_tokens_by_source_total{{source="external_kv_transfer",{where}}})') > 0
    assert value(f"sum(vllm_router_pd_requests_total{{{where}}})") >= 4
    assert value("sum(phasewatt_reconcile_seconds_count)") > 0
    assert value(f'count(up{{{where},role=~"prefill|decode|router"}} == 1)') == 3
