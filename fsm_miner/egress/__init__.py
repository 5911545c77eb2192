"""A job's way out: an HTTP proxy of the daemon's, to the hosts that manifest and configuration both name.

request.py   what a client asked for, from bytes; pure
grant.py     which hosts a job may reach, and at which addresses; pure
proxy.py     one job's proxy: accepts, judges, connects, copies, counts
gateway.py   all jobs' proxies: opened with a run or found again, closed with it
"""
