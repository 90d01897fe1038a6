"""The process of a service: its start, its health, its clean stop."""
