"""From what `.status` and the cluster say back to a state: after Redis was lost, and from Triton 0.1.x. Pure."""
