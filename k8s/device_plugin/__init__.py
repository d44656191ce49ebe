"""The device plugin: whole MXC500 cards as an extended resource (v1beta1), for nodes without MetaX's own plugin.

    inventory.py    which cards there are, their health, their files; what ListAndWatch shows
    choice.py       which cards belong together, by how they are linked
    service.py      the kubelet's four questions, over a unix socket
    settings.py     what it is told

`python -m k8s.device_plugin` starts it; `docs/device-plugin.md` is the page to read. Cards are read as by the
exporter (`k8s/exporter/library.py`).
"""
