"""The code location `studio`: `dagster api grpc -m orchestration.definitions`."""

from orchestration.build import build_defs

defs = build_defs()
