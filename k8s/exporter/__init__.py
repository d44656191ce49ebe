"""The MXC500 exporter: one process on each GPU node, which shows the cards to Prometheus as `studio_gpu_*`.

    mxsml.py        the vendor's library through ctypes, and what its return codes mean
    probes.py       one function for each call: base units, absent where the card does not say
    mx_smi.py       the vendor's command line, when the library cannot be used
    meters.py       energy from power, and counters that only rise from counters that wrap
    records.py      what outlives the process: cards once seen, joules, counters
    workloads.py    which pod holds a card, by the kubelet; which model and tenant it works for, by a mapping
    sampler.py      one pass over all of that, every few seconds
    metrics.py      the table of metrics, and a pass in Prometheus' words
    server.py       /metrics and /healthz

It stands alone: of this repository it imports `studio.{clock,errors,logs}` only, for a node needs no more packages.
`docs/exporter.md` is the page to read; `python -m k8s.exporter` starts it.
"""
