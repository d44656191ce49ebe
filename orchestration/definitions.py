"""The code location `studio`: `dagster api grpc -m orchestration.definitions`."""

from orchestration.build import build_defs
from studio import logs
from studio.settings import settings

# Runs and sensors load this module. Without it structlog prints a traceback with all local variables: prompts, keys.
logs.configure(settings().log_format, settings().log_level)
defs = build_defs()
