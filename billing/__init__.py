"""From usage to money: sealed windows, counted tokens, rated lines, invoices and their documents.

Pure rules stand beside thin functions that read and write rows in a transaction that the caller opened; nothing here
commits, knows Dagster or HTTP, or asks for the time.
"""
