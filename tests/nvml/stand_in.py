"""A driver made of text: builds the stand-in NVML library and says what hardware it shows.

    library = build_library(tmp_path)                      # compiles once; skips without gcc, fails with CI=true
    driver = StandIn(library, tmp_path / "scenario", one_card())
    subprocess.run([...], env={**os.environ, **driver.env})
    driver.show(Scenario(cards=()))                        # the card is unplugged under the running process

pynvml loads `libnvidia-ml.so.1` by name, so what shall see the stand-in must be a process of its own.
"""

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.needs import lacking

SOURCE = Path(__file__).with_name("nvml_stand_in.c")

# NVML's return codes (NVML reference, nvmlReturn_t).
UNINITIALIZED = 1
NO_PERMISSION = 4
DRIVER_NOT_LOADED = 9
GPU_IS_LOST = 15
LIB_RM_VERSION_MISMATCH = 18


@dataclass(frozen=True)
class Instance:
    """A MIG instance in `slot` of its card. Sizes in MiB."""

    slot: int
    gi: int
    ci: int
    uuid: str
    total_mb: int = 4864
    free_mb: int = 4800
    name: str = "NVIDIA Stand-in MIG 1g.5gb"


@dataclass(frozen=True)
class Card:
    """A card. `mig`: None not supported, else on or off. After `after` calls about it: the error `code`."""

    minor: int
    uuid: str
    total_mb: int = 16384
    free_mb: int = 16000
    mig: bool | None = None
    code: int = 0
    after: int = 0
    name: str = "NVIDIA Stand-in 16GB"
    instances: tuple[Instance, ...] = ()


@dataclass(frozen=True)
class Scenario:
    """What the driver shows. `init`: the code of nvmlInit; `hang`: a function that blocks until shown otherwise."""

    cards: tuple[Card, ...] = ()
    driver: str = "545.23.06"
    cuda: int = 12030
    init: int = 0
    generation: int = 1
    hang: str | None = None

    def text(self) -> str:
        lines = [
            f"driver {self.driver}",
            f"cuda {self.cuda}",
            f"init {self.init}",
            f"generation {self.generation}",
        ]
        lines += [f"hang {self.hang}"] if self.hang else []
        for index, card in enumerate(self.cards):
            mig = -1 if card.mig is None else int(card.mig)
            lines.append(
                f"card {card.minor} {card.uuid} {card.total_mb} {card.free_mb} {mig} "
                f"{card.code} {card.after} {card.name}"
            )
            lines += [
                f"instance {index} {i.slot} {i.gi} {i.ci} {i.uuid} {i.total_mb} {i.free_mb} {i.name}"
                for i in card.instances
            ]
        return "".join(line + "\n" for line in lines)


def cards(count: int) -> Scenario:
    """`count` cards, each with 1000 MiB less free than the one before it."""
    return Scenario(
        cards=tuple(
            Card(minor=n, uuid=f"GPU-00000000-0000-0000-0000-{n:012d}", free_mb=16000 - 1000 * n)
            for n in range(count)
        )
    )


def one_card() -> Scenario:
    return cards(1)


def mig_card() -> Scenario:
    """One card with MIG on and three instances, with gaps between their slots."""
    instances = tuple(
        Instance(slot=slot, gi=gi, ci=0, uuid=f"MIG-00000000-0000-0000-0000-{gi:012d}")
        for slot, gi in ((0, 7), (2, 8), (5, 13))
    )
    uuid = "GPU-00000000-0000-0000-0000-0000000000aa"
    return Scenario(cards=(Card(minor=3, uuid=uuid, total_mb=40960, mig=True, instances=instances),))


def build_library(folder: Path) -> Path:
    """Compile the stand-in into `folder` and return the folder, for LD_LIBRARY_PATH."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        message = "the NVML stand-in needs a C compiler: apt install gcc libc6-dev"
        lacking(message)
    target = folder / "libnvidia-ml.so.1"
    flags = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-fvisibility=hidden"]
    done = subprocess.run(
        [compiler, *flags, "-Wl,-soname,libnvidia-ml.so.1", "-o", str(target), str(SOURCE)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@dataclass
class StandIn:
    """The library in `library`, showing what the file `path` says."""

    library: Path
    path: Path
    scenario: Scenario = field(default_factory=Scenario)

    def __post_init__(self) -> None:
        self.show(self.scenario)

    @property
    def env(self) -> Mapping[str, str]:
        """What a process needs in its environment to load the stand-in instead of a real driver."""
        return {"LD_LIBRARY_PATH": str(self.library), "FSM_NVML_SCENARIO": str(self.path)}

    def show(self, scenario: Scenario) -> None:
        """Change the hardware; processes see it at their next NVML call."""
        self.scenario = scenario
        new = self.path.with_name(self.path.name + ".new")
        new.write_text(scenario.text(), encoding="ascii")
        new.replace(self.path)
