"""What a cluster needs beside the house: exporter, device plugin, alerts. Begin with `docs/exporter.md`."""
