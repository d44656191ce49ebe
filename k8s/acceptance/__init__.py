"""Acceptance of an installation, day by day, on a real cluster: `make cluster-test` (docs/installation.md).

It reads the cluster with the KUBECONFIG of whoever runs it and asks the gateway with a key. It changes nothing but for
one pod, which tries the network of a tenant and is removed.
"""
