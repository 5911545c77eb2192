"""NVIDIA GPUs, by NVML (section 7: name, video memory, driver and CUDA version; MIG instances).

The session with the driver is opened once and kept, so that a reading costs microseconds. It is closed
and opened again when the driver says that it is gone, and now and then while a card is missing, because
NVML sees a card that came back only after a new start.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

from fsm_miner.probe.gpu import NOTHING, Gpu, GpuReading, MigInstance, mib
from fsm_miner.probe.nvidia_nodes import NvidiaNodes
from fsm_miner.probe.nvml_api import Nvml

__all__ = ["NvidiaSource"]

CARDS_MAX = 64
MIG_INSTANCES_MAX = 16
# At the specification's heartbeat of 15 s: a look for a returned card every five minutes.
READINGS_PER_REOPEN = 20

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Versions:
    driver: str | None
    cuda: str | None


class NvidiaSource:
    """Reads NVIDIA cards through `api`. Keeps the one NVML session of this process open."""

    def __init__(self, api: Nvml, nodes: NvidiaNodes) -> None:
        self._api = api
        self._nodes = nodes
        self._open = False
        self._readings_with_loss = 0

    def read(self) -> GpuReading:
        """Return every usable card or MIG instance; a node without a driver has none and no problem."""
        if self._readings_with_loss >= READINGS_PER_REOPEN:
            self._close()
        was_open = self._open
        try:
            return self._read_session()
        except self._api.NVMLError as error:
            self._close()
            first = error
        if not was_open:
            return self._without_driver(first)
        # The driver was reloaded below an open session: once more with a new one.
        try:
            return self._read_session()
        except self._api.NVMLError as error:
            self._close()
            return self._without_driver(error)

    def close(self) -> None:
        """End the session; a later reading opens a new one."""
        self._close()

    def _read_session(self) -> GpuReading:
        api = self._api
        if not self._open:
            api.nvmlInit()
            self._open = True
            self._readings_with_loss = 0
        versions = _Versions(
            driver=api.nvmlSystemGetDriverVersion(),
            cuda=_cuda_text(self._unless_unknown(api.nvmlSystemGetCudaDriverVersion_v2)),
        )
        count = api.nvmlDeviceGetCount()
        gpus: list[Gpu] = []
        problems: list[str] = []
        lost = False
        for index in range(min(count, CARDS_MAX)):
            try:
                card, its_problems = self._card(index, versions)
            except api.NVMLError_Uninitialized:
                raise
            except api.NVMLError as error:
                lost = True
                problems.append(f"NVIDIA card {index} is left out: {error}; see nvidia-smi and dmesg")
            else:
                gpus += card
                problems += its_problems
        if count > CARDS_MAX:
            problems.append(f"NVML reports {count} cards: only the first {CARDS_MAX} are used")
        self._readings_with_loss = self._readings_with_loss + 1 if lost else 0
        return GpuReading(tuple(gpus), tuple(problems))

    def _card(self, index: int, versions: _Versions) -> tuple[list[Gpu], list[str]]:
        api = self._api
        handle = api.nvmlDeviceGetHandleByIndex(index)
        minor = api.nvmlDeviceGetMinorNumber(handle)
        mode = self._unless_unknown(lambda: api.nvmlDeviceGetMigMode(handle))
        if mode is None or mode[0] != api.NVML_DEVICE_MIG_ENABLE:
            gpu, problems = self._gpu(handle, index, minor, versions, None)
            return [gpu], problems
        uuid = api.nvmlDeviceGetUUID(handle)
        gpus: list[Gpu] = []
        problems: list[str] = []
        for instance in self._mig_handles(handle):
            where = MigInstance(
                parent=uuid,
                gpu_instance=api.nvmlDeviceGetGpuInstanceId(instance),
                compute_instance=api.nvmlDeviceGetComputeInstanceId(instance),
            )
            gpu, its_problems = self._gpu(instance, index, minor, versions, where)
            gpus.append(gpu)
            problems += its_problems
        if not gpus:
            problems.append(
                f"NVIDIA card {index} ({uuid}) has MIG on and no instance: make some with nvidia-smi mig -cgi … -C"
            )
        return gpus, problems

    def _mig_handles(self, card: Any) -> Iterator[Any]:
        """Yield the card's instances; their numbers have gaps."""
        for position in range(min(self._api.nvmlDeviceGetMaxMigDeviceCount(card), MIG_INSTANCES_MAX)):
            try:
                yield self._api.nvmlDeviceGetMigDeviceHandleByIndex(card, position)
            except self._api.NVMLError_NotFound:
                continue

    def _gpu(
        self, handle: Any, index: int, minor: int, versions: _Versions, mig: MigInstance | None
    ) -> tuple[Gpu, list[str]]:
        uuid = self._api.nvmlDeviceGetUUID(handle)
        memory = self._api.nvmlDeviceGetMemoryInfo(handle)
        devices, missing = self._nodes.find(minor, mig)
        gpu = Gpu(
            id=uuid,
            vendor="nvidia",
            name=self._api.nvmlDeviceGetName(handle),
            vram_mb=mib(memory.total),
            vram_free_mb=mib(memory.free),
            index=index,
            driver=versions.driver,
            cuda_version=versions.cuda,
            devices=devices,
            # By UUID, because indices count differently inside the sandbox, where other cards are absent.
            visible_env=MappingProxyType({"CUDA_VISIBLE_DEVICES": uuid}),
            mig=mig,
        )
        return gpu, [f"{uuid}: {problem}" for problem in missing]

    def _unless_unknown(self, ask: Callable[[], T]) -> T | None:
        """Return the answer, or None where this card or driver does not know the question."""
        try:
            return ask()
        except (self._api.NVMLError_NotSupported, self._api.NVMLError_FunctionNotFound):
            return None

    def _without_driver(self, error: Exception) -> GpuReading:
        if isinstance(error, self._api.NVMLError_LibraryNotFound):
            return NOTHING  # no driver installed: this is a node without NVIDIA cards
        if isinstance(error, self._api.NVMLError_LibRmVersionMismatch):
            # This process keeps the old library for as long as it lives.
            advice = "the driver was upgraded: restart this daemon (jobs live on), or reboot if nvidia-smi fails too"
        elif isinstance(error, self._api.NVMLError_DriverNotLoaded):
            advice = "the library is installed, the kernel module is not loaded: modprobe nvidia"
        elif isinstance(error, self._api.NVMLError_NoPermission):
            advice = "this daemon's user must be able to open /dev/nvidiactl and /dev/nvidia<n>: look at their mode"
        else:
            advice = "see nvidia-smi and dmesg"
        return GpuReading(problems=(f"NVML does not work: {error}; {advice}",))

    def _close(self) -> None:
        if not self._open:
            return
        self._open = False
        self._readings_with_loss = 0
        try:
            self._api.nvmlShutdown()
        except self._api.NVMLError:
            return  # the driver is gone, and the session with it


def _cuda_text(version: int | None) -> str | None:
    """Return `12.3` for NVML's 12030 (1000 * major + 10 * minor)."""
    return None if version is None else f"{version // 1000}.{version % 1000 // 10}"
