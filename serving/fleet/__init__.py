"""The fleet: which variants are sold and which replicas run them. Imports neither Dagster nor FastAPI."""
