"""The real worksite: what `fsm_miner.worksite` promises, done on this machine.

checks.py    may this job run here, and within which limits
plan.py      from a job to a run's description
process.py   launch, watch, stop
endings.py   how a run came to its end
cgroups.py   where a run's cgroup may be made, what it can't do here, when it goes
worksite.py  the port, put together
"""
