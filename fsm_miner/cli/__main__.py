"""`python -m fsm_miner.cli` is `fsm-miner`."""

from fsm_miner.cli.app import main

main()
