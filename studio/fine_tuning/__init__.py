"""What the gateway and the trainer must see alike of a fine-tune: its data set, and what "auto" means for it. Whoever
quotes a price and whoever trains would otherwise count differently.
"""
