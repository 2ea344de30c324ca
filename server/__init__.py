"""What the aggregation centre runs: gather, check, count, learn. Read `server/intake.py` first."""
