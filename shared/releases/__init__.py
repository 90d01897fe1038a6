"""The history of an instance's releases, and the specs of new ones."""
