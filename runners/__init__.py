"""What may run, and how it is run: allowlists, the sandbox's assembly, processes."""
