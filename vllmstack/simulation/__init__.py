"""A simulator of replicas behind a routing policy: continuous batching, a paged KV cache, prefixes shared by requests.

Discrete events in simulated seconds; nothing here touches a disk, a socket or a clock, but ``deployed``, which reads
the gateway's own choice and runs it in LuaJIT. What is left out is said where it is left out.
"""
