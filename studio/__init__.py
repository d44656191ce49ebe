"""Ground floor: what every other folder stands on (settings, clock, ids, errors, tables, objects, catalog, tenants).

It starts nothing and imports no other folder of this repository.
"""
