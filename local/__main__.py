"""`python -m local` is the `studio` command."""

from local.cli import main

if __name__ == "__main__":
    main()
