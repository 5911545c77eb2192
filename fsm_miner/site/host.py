"""What this machine offers for running jobs as a configuration wants them: one question, whoever asks it."""

from pathlib import Path

from fsm_miner.config.model import Config
from runners.host import HostProblems, HostTools, probe_host
from runners.run import Bind

__all__ = ["host_tools"]


def host_tools(config: Config | None, copies: Path | None) -> HostTools | HostProblems:
    """Find what running jobs needs, for the configured sandbox; without a configuration, for the default one.

    Where this is root, what its jobs get in copies of their own (`runners.own_copies`) is made in `copies`; None: it
    is not tried. `HostTools.cores_max` and `sees_hidden` are those of this process.
    """
    off = config is not None and config.sandbox.backend == "none"
    extra = () if config is None else config.sandbox.extra_ro_binds
    return probe_host(
        "none" if off else "bwrap",
        extra_binds=[Bind(path, str(path)) for path in extra],
        copies=copies,
    )
