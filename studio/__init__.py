"""Ground floor: what every other folder stands on (settings, clock, ids, errors, tables, objects, catalog, tenants).

It starts nothing and imports no other folder of this repository.
"""

VERSION = "0.1.0"  # as pyproject.toml says; what is running need not be installed as a package
