"""Restore a state from `.status` and the cluster: after Redis was lost, and from Triton 0.1.x. Pure."""
