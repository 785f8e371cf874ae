"""The registry in etcd, through its v3 JSON gateway: no gRPC, and a thread of its own."""
