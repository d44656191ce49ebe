"""How often, how much and how many at once: limits of tenants, keys and models, exact across gateways.

`rules.py` says which limits meet a request, `buckets.py` what a bucket is (pure), `bucket.lua` the same inside Valkey,
`shared.py` and `connection.py` the way there, `readings.py` what a caller is told, `limiter.py` what the token path
calls. Budgets are money and live elsewhere. Known limits: docs/decisions/0011-limits-are-one-pipelined-script-call.md.
"""
