"""Mock GPU node plugin: hands out GPUs that do not exist, through the same kubelet APIs as the real ones.

One process per node serves a DRA driver (``gpu.nvidia.com``) and a device plugin (``nvidia.com/gpu``), each on its own
share of the GPUs that the inventory file describes. Everything it publishes is simulated: no GPU is present.
"""

DRIVER_NAME = "gpu.nvidia.com"
RESOURCE_NAME = "nvidia.com/gpu"
