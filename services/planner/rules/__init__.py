"""Pure rules about a state: whether a batch may continue, whether it has failed, which pods it replaces."""
