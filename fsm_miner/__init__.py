"""The worker node daemon: it pulls jobs, runs them in a sandbox, and delivers what came of them."""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("fsm-miner")
