"""Every attack, in the order of the page."""

from tests.hostile.attack import Attack
from tests.hostile.attacks_by_egress import EGRESS
from tests.hostile.attacks_on_files import READING
from tests.hostile.attacks_on_kernel import KERNEL
from tests.hostile.attacks_on_network import NETWORK
from tests.hostile.attacks_on_outputs import OUTPUTS
from tests.hostile.attacks_on_processes import PROCESSES
from tests.hostile.attacks_on_resources import RESOURCES

__all__ = ["ATTACKS"]

ATTACKS: tuple[Attack, ...] = (
    *RESOURCES,
    *PROCESSES,
    *KERNEL,
    *READING,
    *NETWORK,
    *EGRESS,
    *OUTPUTS,
)
