"""`fsm-miner run`: the daemon, in the foreground."""

from fsm_miner.cli.options import ConfigOption, config_path
from fsm_miner.start import run_daemon

HELP = """Run the daemon in the foreground, until SIGTERM or Ctrl-C.

Jobs that run outlive it: the next start finds them and goes on. SIGUSR1 drains it (see `fsm-miner drain`),
SIGUSR2 takes that back, SIGHUP opens the log file anew.
"""
EXAMPLES = """\
  MINER_AUTH=... fsm-miner run --config ./config.yaml
  systemctl enable --now aitbc-miner      what you want on a real node"""
EXIT_CODES = """\
  0  it was asked to stop
  2  the configuration is wrong: every problem is on standard error
  3  this machine can't run jobs as configured: see `fsm-miner check`
  4  another daemon works in the same state folder
  5  this version reads the journal otherwise than it was written, or a later one wrote it; nothing was changed"""


def command(config: ConfigOption = None) -> int:
    """Run the daemon; return its exit code."""
    return run_daemon(config_path(config))
