"""Kills and breaks everything that a gathering is made of, and counts afterwards what became of every X-ray.

`python -m examples.faults` builds three hospitals and a centre of real processes and lets them release and gather
while it kills processes with SIGKILL and makes disks, clocks, the network and the database fail: storm.py says when,
breaks.py and between.py how. Whatever was killed is started again as systemd would (machines.py). When everything is
whole again, verdict.py reads both ledgers and holds them against each other. docs/faults.md is its page.
"""
