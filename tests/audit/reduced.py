"""The audit in little, for tests: the same checks with fewer samples.

Alpha does not shrink with the samples: every random check accuses a right mechanism with a probability of at most
ALPHA = 1e-8. The tests of this folder make under 100 such checks on right mechanisms, so that a false alarm is seen in
at most one of a million runs of the suite. What shrinks is the power. The twin nearest to being missed, the scale that
is 1.3 times too large, deviates by about 20 standard errors at DRAWS / 4 samples, where 6.5 are noticed.
"""

from __future__ import annotations

from ldp_client.audit.findings import Effort

DRAWS = 80_000
REDUCED = Effort("reduced", draws=DRAWS, records=4_000, codebooks=400, enumerated=64)
