"""Fine-tunes: data sets in, validated LoRA adapters out. Imports `studio` only; knows neither Dagster nor FastAPI.

Two environments meet here. The application's: `dataset`, `hyperparameters`, `jobs`, `run`, `adapter_check`. The
engine's, in a process of its own: `trainer`, `examples`. Both use `spec`, `progress`, `checkpoints`, which need nothing
but boto3.
"""
