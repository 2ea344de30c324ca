"""What crosses the line between a hospital and the centre: canonical bytes, signatures, chains, records."""
