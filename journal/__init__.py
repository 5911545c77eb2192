"""The journal: append-only, hash-chained streams of facts."""
