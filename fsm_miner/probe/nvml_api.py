"""The part of pynvml that this node uses, with types.

pynvml (package `nvidia-ml-py`) has none of its own. It loads `libnvidia-ml.so.1` at the first `nvmlInit`,
not at import, so importing it is harmless on a node without a driver.
"""

from importlib import import_module
from typing import Any, Protocol, cast

__all__ = ["Memory", "Nvml", "load"]


class Memory(Protocol):
    """`nvmlMemory_t`, in bytes."""

    total: int
    free: int
    used: int


class Nvml(Protocol):
    """Functions as in the NVML reference; each raises a subclass of `NVMLError`. Handles are opaque."""

    NVMLError: type[Exception]
    NVMLError_DriverNotLoaded: type[Exception]
    NVMLError_FunctionNotFound: type[Exception]
    NVMLError_LibraryNotFound: type[Exception]
    NVMLError_LibRmVersionMismatch: type[Exception]
    NVMLError_NoPermission: type[Exception]
    NVMLError_NotFound: type[Exception]
    NVMLError_NotSupported: type[Exception]
    NVMLError_Uninitialized: type[Exception]
    NVML_DEVICE_MIG_ENABLE: int

    def nvmlInit(self) -> None: ...  # noqa: N802, D102 - NVML's names
    def nvmlShutdown(self) -> None: ...  # noqa: N802, D102
    def nvmlSystemGetDriverVersion(self) -> str: ...  # noqa: N802, D102
    def nvmlSystemGetCudaDriverVersion_v2(self) -> int: ...  # noqa: N802, D102
    def nvmlDeviceGetCount(self) -> int: ...  # noqa: N802, D102
    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any: ...  # noqa: N802, D102
    def nvmlDeviceGetName(self, handle: Any) -> str: ...  # noqa: N802, D102
    def nvmlDeviceGetUUID(self, handle: Any) -> str: ...  # noqa: N802, D102
    def nvmlDeviceGetMinorNumber(self, handle: Any) -> int: ...  # noqa: N802, D102
    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Memory: ...  # noqa: N802, D102
    def nvmlDeviceGetMigMode(self, device: Any) -> list[int]: ...  # noqa: N802, D102
    def nvmlDeviceGetMaxMigDeviceCount(self, device: Any) -> int: ...  # noqa: N802, D102
    def nvmlDeviceGetMigDeviceHandleByIndex(self, device: Any, index: int) -> Any: ...  # noqa: N802, D102
    def nvmlDeviceGetGpuInstanceId(self, device: Any) -> int: ...  # noqa: N802, D102
    def nvmlDeviceGetComputeInstanceId(self, device: Any) -> int: ...  # noqa: N802, D102


def load() -> Nvml:
    """Return the pynvml module."""
    return cast("Nvml", cast("object", import_module("pynvml")))
