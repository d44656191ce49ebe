"""Webhooks: addresses that tenants name, and signed messages to them. Dagster sends; no request waits for it."""
