"""What was promised beside prices: availability in working hours, first tokens, exact usage. Counted from rows.

What was credited for missed targets of the fast tier is money, and `billing`'s to say; no figure here stands for it.
"""
