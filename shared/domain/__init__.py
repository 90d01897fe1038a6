"""What the services agree on, as values: the DeployFlow, the messages and topics, commands, freeze windows. No I/O."""
