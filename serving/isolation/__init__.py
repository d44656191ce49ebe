"""The nightly probe: two tenants of ours try to reach what is each other's and everybody else's.

`canaries.py` makes them, `estate.py` is what one of them owns. `front_door.py` and `back_door.py`
are the real doors: HTTP with a key, and SQL in the gateway's role.
`probes.py` tries, `certificate.py` says in words and with a signature what came of it, `night.py` does all of it.
"""
