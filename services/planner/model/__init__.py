"""Frozen values and arithmetic: what the planner knows. Imports no other room."""
