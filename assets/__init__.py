"""What exists, as Dagster assets with their checks: thin functions that select, call the domain and report.

State is in PostgreSQL; a materialisation shows it and drives it. Wiring (jobs, sensors, resources) is `orchestration/`.
Dagster reads the annotations of contexts, resources and configuration when it loads a definition, so the modules with
definitions go without `from __future__ import annotations`.
"""
