"""REST and gRPC: transport only. What a call does is in `calls`; what it changes is in `intake`."""
