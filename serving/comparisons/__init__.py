"""Blind comparisons: models answer under aliases until the person who compares them has voted."""
