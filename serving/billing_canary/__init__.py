"""The billing canary: known requests through the front door, whose bill must be what the canary itself counts."""
