"""What the end-to-end tests, the demo and the benchmarks share: a cluster to talk to, requests to send, load to keep up."""
