"""The domain shared by the services, as values: the DeployFlow, the messages and topics, commands, freeze windows. No I/O."""
