"""The cross-check: a sample of answered requests is counted again by their model's own tokenizer, outside the hot path.

`sample.py` is what is held of one until then, `checker.py` counts. What the numbers mean is `billing/token_counts.py`.
"""
