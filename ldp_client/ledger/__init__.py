"""The site ledger: every charge, durable before the draw; every seal, durable before a byte leaves."""
