"""The whole plugin in a thread, as its container would run it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from phasewatt_mockgpu.clusterapi import ClusterApi
from phasewatt_mockgpu.plugin import NodePlugin, Settings

from .fake_cluster import eventually
from .fake_kubelet import DraKubelet

REGISTRATION = "plugins_registry/gpu.nvidia.com-reg.sock"


@contextmanager
def running(settings: Settings, cluster: ClusterApi) -> Iterator[DraKubelet]:
    """The plugin in its own thread, registered with a kubelet; stopped as by SIGTERM at the end."""
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(NodePlugin(settings, cluster).run, stop)
        try:
            socket = settings.kubelet_folder / REGISTRATION
            eventually(lambda: socket.exists() or done.done())
            if done.done():
                done.result()
            yield DraKubelet(socket)
        finally:
            stop.set()
            done.result(timeout=30)
