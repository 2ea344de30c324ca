"""What a hospital runs: X-rays in, epsilon-LDP records out, every charge in a ledger.

Read `ldp_client/release.py` first. It tells the road of one X-ray from top to bottom; everything else is a leaf it
calls. `server/intake.py` is the other half.
"""
