"""People in browsers: the authorization code flow with a provider, one-time links, sessions in a cookie.

`code_flow.py` speaks to the provider, `attempts.py` is what a browser carries meanwhile, `sessions.py` who is signed
in, `cookies.py` how a request shows it and why another site cannot. The routes are `serving/routes/auth.py`.
"""
