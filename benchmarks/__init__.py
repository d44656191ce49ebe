"""Benchmarks: one module is one command (`python -m benchmarks.NAME`, `make bench NAME=NAME`) that ends with one JSON
line of ratios against a named peer or limit. Correctness belongs into `tests/`; nothing here runs in production."""
