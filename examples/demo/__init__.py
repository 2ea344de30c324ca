"""Three hospital sites and one aggregation centre on loopback: the whole road of an X-ray, on one machine.

`hospitals.py` says who holds which X-rays, `result.py` what a run found, `report.py` tells it (with `page.py` and
`pictures.py`) on the screen and in a folder.
"""
