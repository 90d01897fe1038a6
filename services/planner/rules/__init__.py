"""Pure questions about a state: may this batch go on, has it failed, which pods does it replace."""
