"""The coordinator, seen from here: a port, and the client that speaks the contract's dialect."""
