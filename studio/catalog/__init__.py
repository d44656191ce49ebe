"""The catalog: reviewed YAML files in, tables out. `declaration` judges the files, `sync` writes the tables."""
