"""The kernel's graphics cards in sysfs: what AMD's and Intel's drivers publish without a library."""

import re
from dataclasses import dataclass
from pathlib import Path

from fsm_miner.probe.sysfile import read_text

__all__ = ["DrmCard", "drm_cards"]

CARDS_MAX = 64
CARD = re.compile(r"card([0-9]{1,4})\Z")
RENDER = re.compile(r"renderD[0-9]{1,4}\Z")
PCI_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]\Z")


@dataclass(frozen=True, slots=True)
class DrmCard:
    """One `cardN` of `/sys/class/drm`.

    `folder` is the card's, `device` the PCI device's, whose address is `pci`; `render` is the name of its
    render node (`renderD128`), where it has one.
    """

    number: int
    folder: Path
    device: Path
    pci: str
    pci_id: str
    render: str | None


def drm_cards(sysfs: Path, vendor: str) -> list[DrmCard]:
    """Return the cards of a PCI vendor (`0x1002`), ordered by number; [] where sysfs shows none."""
    root = sysfs / "class/drm"
    try:
        names = sorted(entry.name for entry in root.iterdir())
    except OSError:
        return []  # no graphics driver at all
    numbers = sorted(int(match[1]) for name in names if (match := CARD.match(name)))
    cards = [_card(root / f"card{number}", number) for number in numbers[:CARDS_MAX]]
    return [card for card in cards if card is not None and read_text(card.device / "vendor") == vendor]


def _card(folder: Path, number: int) -> DrmCard | None:
    try:
        device = (folder / "device").resolve(strict=True)
        renders = sorted(entry.name for entry in (device / "drm").iterdir() if RENDER.match(entry.name))
    except OSError:
        return None  # unplugged between the listing and now, or no PCI device (a virtual display)
    if not PCI_ADDRESS.match(device.name):
        return None
    return DrmCard(
        number=number,
        folder=folder,
        device=device,
        pci=device.name,
        pci_id=read_text(device / "device") or "unknown",
        render=renders[0] if renders else None,
    )
