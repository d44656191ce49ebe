"""The try-it box of the first page: visitors without a name ask a model, within limits of all of them together.

`allowance.py` counts, `box.py` knows the visitors' key and the model, `endpoint.py` answers.
"""
