"""One machine: the `studio` command line, the embedded servers, the supervisor and the node agent.

The floors above and below are started as processes, never imported, apart from `studio`.
"""
