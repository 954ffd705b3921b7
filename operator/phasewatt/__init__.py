"""Kubernetes operator for disaggregated LLM inference that knows what each phase costs."""
