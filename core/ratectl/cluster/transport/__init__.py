"""Transport of the cluster's messages: over Unix sockets on one machine, over TLS between machines.

``codec`` turns messages into bytes, ``frames`` finds them in a stream, ``links`` owns the sockets.
There is no thread: the caller runs a loop that polls. Messages may be lost, never changed.
"""
