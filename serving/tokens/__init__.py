"""The three endpoints that produce tokens: plain ASGI, ahead of the web framework, which would cost 100 us a request.

`wire` reads requests and `answers` rewrites what comes back, both pure; `usage` counts; `upstream` speaks to engines;
`endpoint` is the life of one request.
"""
