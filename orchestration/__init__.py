"""Dagster's wiring: which assets, jobs, sensors, schedules and resources make up this code location. Nothing else."""
