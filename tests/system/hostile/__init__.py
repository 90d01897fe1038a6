"""What a hostile account sends, made from a seed; releases of others beside it must end in time."""
