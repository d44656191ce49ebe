"""Anthropic's Messages API, spoken by the engines' chat completions: metered, limited and ended exactly like those."""
