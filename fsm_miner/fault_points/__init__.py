"""Fault points: places where the daemon, if its environment asks for it, ends itself as `kill -9` would.

    fsm_miner.start ── FSM_MINER_FAULT ──► spec ──► points ◄── ports   (journal, coordinator, worksite, downloads)
                                                           ◄── system  (what Python does to the disk, and spawns)

Nothing of it exists while the variable is not set: the ports are wrapped where the daemon is put together, so that
no code of the daemon asks whether there are fault points. See docs/fault-points.md.
"""
