"""`python -m fsm_miner --config PATH`: the daemon, as systemd starts it. `fsm-miner run` does the same."""

import argparse
import os
import sys
from pathlib import Path

from fsm_miner.start import run_daemon

CONFIG_DEFAULT = "/etc/aitbc/miner/config.yaml"


def _main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fsm_miner", description="Run the worker node daemon.")
    parser.add_argument(
        "--config",
        type=Path,
        default=Path(os.environ.get("FSM_MINER_CONFIG") or CONFIG_DEFAULT),
        help="configuration file (default: $FSM_MINER_CONFIG, then %(default)s)",
    )
    return run_daemon(parser.parse_args().config)


if __name__ == "__main__":
    sys.exit(_main())
