"""Random releases with random people, neighbours and faults around them, and what must hold meanwhile and at rest."""
