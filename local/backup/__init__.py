"""Backups of the database, and the drill that proves them: `dump.py` makes one, `drill.py` restores it elsewhere and
compares what came back with what the manifest says. `facts.py` is what both look at.
"""
