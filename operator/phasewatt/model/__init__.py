"""Analytic model of an LLM engine on a GPU: bytes, FLOPs, seconds, watts. Pure arithmetic, no I/O, no clock of its own.

One model serves the planner, the simulated engine and the benchmarks. Its terms and constants follow Li et al.,
"Revisiting Disaggregated LLM Serving" (hardware, setups, KV sizes) and Ruf & Detyniecki, "The Cost of Context"
(long-context prefill time and energy); each module's docstring says which. Its numbers are simulated, never measured.
"""
