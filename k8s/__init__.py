"""What a cluster needs beside the house: charts, images and the catalog's values (`docs/kubernetes.md`), exporter,
device plugin and alerts (`docs/exporter.md`)."""
