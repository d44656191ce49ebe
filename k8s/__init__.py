"""What a cluster needs beside the house: the exporter of the cards (`docs/exporter.md`), alerts (`docs/runbook.md`)."""
