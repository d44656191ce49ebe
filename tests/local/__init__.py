"""The one-machine stack, tried with real processes and real servers."""
