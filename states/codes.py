"""The error codes of the wire contract, each with its rule.

`retry_here` says whether this node may try again by itself (up to `retries.max_attempts` runs);
`retryable` is what the coordinator is told when the code is the job's outcome.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

__all__ = ["RULES", "CodeRule", "ErrorCode", "Failure"]


class ErrorCode(StrEnum):
    """Why a job did not succeed (contract, section "Error codes")."""

    INVALID = "E_INVALID"
    SIGNATURE = "E_SIGNATURE"
    DENY = "E_DENY"
    NOGPU = "E_NOGPU"
    NORESOURCE = "E_NORESOURCE"
    INPUT = "E_INPUT"
    EXIT = "E_EXIT"
    SIGNAL = "E_SIGNAL"
    TIMEOUT = "E_TIMEOUT"
    OOM = "E_OOM"
    OUTPUT = "E_OUTPUT"
    ARTIFACT = "E_ARTIFACT"
    CANCELLED = "E_CANCELLED"
    LOST = "E_LOST"
    UPLOAD = "E_UPLOAD"
    INTERNAL = "E_INTERNAL"


@dataclass(frozen=True, slots=True)
class CodeRule:
    """How a code is handled: retried here, and what the coordinator hears."""

    retry_here: bool
    retryable: bool


RULES: Mapping[ErrorCode, CodeRule] = MappingProxyType(
    {
        ErrorCode.INVALID: CodeRule(retry_here=False, retryable=False),
        ErrorCode.SIGNATURE: CodeRule(retry_here=False, retryable=False),
        ErrorCode.DENY: CodeRule(retry_here=False, retryable=False),
        ErrorCode.NOGPU: CodeRule(retry_here=False, retryable=True),
        ErrorCode.NORESOURCE: CodeRule(retry_here=False, retryable=True),
        ErrorCode.INPUT: CodeRule(retry_here=True, retryable=True),
        ErrorCode.EXIT: CodeRule(retry_here=False, retryable=False),
        ErrorCode.SIGNAL: CodeRule(retry_here=False, retryable=True),
        ErrorCode.TIMEOUT: CodeRule(retry_here=False, retryable=False),
        ErrorCode.OOM: CodeRule(retry_here=False, retryable=False),
        ErrorCode.OUTPUT: CodeRule(retry_here=False, retryable=False),
        ErrorCode.ARTIFACT: CodeRule(retry_here=False, retryable=False),
        ErrorCode.CANCELLED: CodeRule(retry_here=False, retryable=False),
        ErrorCode.LOST: CodeRule(retry_here=True, retryable=True),
        ErrorCode.UPLOAD: CodeRule(retry_here=False, retryable=False),
        ErrorCode.INTERNAL: CodeRule(retry_here=False, retryable=True),
    }
)


@dataclass(frozen=True, slots=True)
class Failure:
    """A code, and a message that says what was wrong, where, and what to do.

    `permanent` overrules the code's rule where trying again cannot help (an input's wrong hash):
    then the node does not retry, and the coordinator is told that nobody should.
    """

    code: ErrorCode
    message: str
    permanent: bool = False

    @property
    def retry_here(self) -> bool:
        """Whether this node may try again by itself."""
        return RULES[self.code].retry_here and not self.permanent

    @property
    def retryable(self) -> bool:
        """What the coordinator is told."""
        return RULES[self.code].retryable and not self.permanent
