"""What the tasks call: one module a command, each with a function that returns nothing."""
