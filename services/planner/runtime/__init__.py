"""The planner's only I/O: Redis, Kafka and the watches; it feeds facts to the decision and carries out what it says."""
