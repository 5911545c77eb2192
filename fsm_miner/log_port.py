"""The part of a structured logger that the daemon uses: `fsm_miner.log` has the real one, tests have their own."""

from typing import Any, Protocol

__all__ = ["Log"]


class Log(Protocol):
    """Takes an event's name and its attributes; `job_id` among them names the job that it is about."""

    def debug(self, event: str, **attrs: Any) -> Any:
        """Log what only a developer wants to know."""
        ...

    def info(self, event: str, **attrs: Any) -> Any:
        """Log what is as it should be."""
        ...

    def warning(self, event: str, **attrs: Any) -> Any:
        """Log what somebody should look at."""
        ...

    def error(self, event: str, **attrs: Any) -> Any:
        """Log what somebody must look at."""
        ...
