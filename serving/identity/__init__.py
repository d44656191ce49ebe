"""Who calls: API keys and people who sign in with an OpenID provider, and what each of them may do.

`permissions.py` is the table of roles, `needs.py` how a route says what it asks for, `callers.py` how a request's
`Authorization` header becomes a caller. The snapshot of keys is `serving/keys.py`.
"""
