"""Benchmarks that print figures; never a pass or a fail."""
