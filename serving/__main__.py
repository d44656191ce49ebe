"""`python -m serving`: a gateway without what its libraries would load only because it is installed.

Rich draws tracebacks in a terminal, watchfiles restarts a server when its files change, and pydantic.v1 is for models
of another age: together 6 MiB of every process, of no use here.
"""

import sys

for absent in ("rich", "watchfiles", "pydantic.v1"):
    sys.modules[absent] = None  # type: ignore[assignment]  # as the import system says "there is none"

from serving.process import main  # noqa: E402  (what it loads must not find them)

if __name__ == "__main__":
    main()
