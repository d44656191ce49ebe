"""What the kubelet speaks over its unix sockets: `*.proto` beside the modules that are generated from them.

The messages are the kubelet's and frozen; only fields that we use are written down. After a change, with grpcio-tools
(not in the lock) in an environment of its own:

    python -m grpc_tools.protoc -I k8s/kubelet --python_out=k8s/kubelet --pyi_out=k8s/kubelet k8s/kubelet/*.proto
"""
