"""The house and gateway of the serving tests, for the console's."""

from tests.serving.conftest import engine, gateway, house, stranger

__all__ = ["engine", "gateway", "house", "stranger"]
