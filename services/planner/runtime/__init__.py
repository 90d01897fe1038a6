"""The I/O that drives decisions: Redis, Kafka and the watches. It feeds facts to the decision and carries out what it says."""
