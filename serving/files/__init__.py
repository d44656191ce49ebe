"""Tenants' files: how they arrive, which rows they are, and where their bytes lie. HTTP is `routes/files.py`."""
