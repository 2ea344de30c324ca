"""The centre's database: sites, central ledger, records, totals."""
