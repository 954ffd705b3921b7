"""The prefill/decode protocol of vLLM's NixlConnector (pull), over HTTP on the side-channel port.

Real engines shake hands over ZMQ on that port; then decode reads the prefill engine's memory and notifies it. Here one
small HTTP endpoint stands for all three, so that a wrong address, a dead peer or another configuration fails
as it would. Leases, heartbeats, single use and the compatibility check are copied from
vllm/distributed/kv_transfer/kv_connector/v1/nixl (0.32).
"""
