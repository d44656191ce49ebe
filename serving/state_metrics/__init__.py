"""What the database says, as metrics: fleet, batches, usage on its way to an invoice, money, tenants, isolation.

One process for the whole installation (`python -m serving.state_metrics`), in the role `auditor`, which changes
nothing. What a gateway measures of its own requests is `serving/metrics.py`; nothing is counted in both places.
"""
