"""Batches: many requests in one file, answered when engines have room. Files and HTTP are elsewhere (`serving/files`,
`serving/routes`); nothing here knows Dagster, which only starts and watches the drain."""
