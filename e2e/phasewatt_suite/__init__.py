"""What the end-to-end tests, the demo and the benchmarks share: a cluster, requests to send, load to keep up."""
