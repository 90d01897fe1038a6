"""What the releases of an instance say of it, and the specs of new ones."""
