"""Pure views of a state: `.status`, events of the release log, spans, metrics, and the plan of a release."""
