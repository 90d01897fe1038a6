"""A state, shown: `.status`, the events of the release log, spans, metrics, the plan before it starts. Pure."""
