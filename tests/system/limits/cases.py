"""All cases, in the order in which they are played."""

from tests.system.limits.delegation import (
    a_hierarchy_of_version_1_is_said,
    a_hierarchy_that_may_only_be_read_is_said,
    what_is_not_delegated_is_said,
)
from tests.system.limits.disks import a_busy_disk_is_shared_by_weight, a_weight_that_no_disk_heeds_is_said
from tests.system.limits.endings import (
    a_daemon_killed_before_the_end_is_durable_loses_no_evidence,
    a_fork_bomb_is_bounded_and_ended,
    a_kill_ends_everything,
    leftovers_are_swept,
    limits_are_in_force,
)
from tests.system.limits.memory import (
    caches_are_taken_back_before_the_limit,
    memory_ends_one_job_only,
    memory_that_was_not_the_jobs_is_not_held_against_it,
    swap_is_used_up_to_its_limit,
)
from tests.system.limits.processors import (
    a_busy_processor_is_shared_by_weight,
    each_job_has_processors_of_its_own,
    the_quota_holds_back,
)

ALL = (
    limits_are_in_force,
    each_job_has_processors_of_its_own,
    the_quota_holds_back,
    a_busy_processor_is_shared_by_weight,
    memory_ends_one_job_only,
    memory_that_was_not_the_jobs_is_not_held_against_it,
    caches_are_taken_back_before_the_limit,
    swap_is_used_up_to_its_limit,
    a_busy_disk_is_shared_by_weight,
    a_weight_that_no_disk_heeds_is_said,
    a_fork_bomb_is_bounded_and_ended,
    a_kill_ends_everything,
    leftovers_are_swept,
    what_is_not_delegated_is_said,
    a_hierarchy_that_may_only_be_read_is_said,
    a_hierarchy_of_version_1_is_said,
    a_daemon_killed_before_the_end_is_durable_loses_no_evidence,
)
