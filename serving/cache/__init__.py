"""Answers that are given again without asking an engine: to callers who ask for it, within their tenant, for a while.

`wish` reads what a caller asks for, `exact` says what may be kept and under which key, both pure; `shelf` keeps sealed
entries in Valkey; `cache` is what the token path calls; `answers` and `vectors` are its two kinds: whole answers, and
embeddings input by input. What a hit costs is the unit `reused` (docs/decisions/0015-caches-are-asked-for.md).
"""
