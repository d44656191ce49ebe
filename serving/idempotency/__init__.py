"""Requests with an `Idempotency-Key`: the same key and body within 24 hours is one request, run and billed once, on
whichever gateways it arrives.

`store` keeps who runs a request and what its answer was, in the database; `application` stands before all routes.
A request without the header does not come here.
"""
