"""Money that runs out: what a request may cost, set aside before it, and settled with the truth after it.

The truth is in the database: a gateway draws a part of a budget before it spends any of it (migration 0005), so however
many gateways there are, and whatever becomes of them, nobody spends more than there is. What a request meets of this is
arithmetic in process; only a request that finds its gateway's part too small waits for the database.

`account` is that arithmetic, pure; `book` keeps the accounts of this process; `draws` speaks to the database.
"""
