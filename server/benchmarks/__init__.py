"""What a release is worth and what it gives away, measured on real X-rays: `ldp-server bench utility` and `attacks`.

Read `tasks` (what is asked of which X-rays), `encoded` (what the public encoder makes of them), `released` (records, by
the road's own mechanisms), `table` (every row that is measured), `utility` (the run). No choice looks at test labels.
"""
