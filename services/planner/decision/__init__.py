"""(state, facts, time) → (state, commands, events). Pure: the same input always gives the same decision."""
