"""The domain of all services as values: the DeployFlow, messages, topics, commands, freeze windows. No I/O."""
