"""The command line, `fsm-miner`: one file for each command, loaded only when it is called."""

from fsm_miner.cli.app import main

__all__ = ["main"]
