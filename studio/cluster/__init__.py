"""The Kubernetes cluster that a site runs on: what it must hold for each tenant, and how it is compared and mended.

Pure are `tenant_objects.py` (what should be there) and `drift.py` (how what is there differs). `connection.py` speaks
to the API server; `tenants.py` brings them together. A site without a cluster has no part in this.
"""
