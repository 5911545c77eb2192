#!/bin/sh
# -P: a folder named "runners" or "journal" where this is called must not stand in for ours.
exec /usr/lib/aitbc/miner/.venv/bin/python -P -m fsm_miner.cli "$@"
