"""Real time: the gateway that answers requests, and the fleet that it routes to. It never imports Dagster."""
