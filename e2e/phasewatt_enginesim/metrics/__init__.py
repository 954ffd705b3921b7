"""vLLM's Prometheus metrics, with the same names, labels and buckets; every help text says that they are simulated."""
