"""Every route that produces no tokens: FastAPI, one file per thing that is asked for."""
