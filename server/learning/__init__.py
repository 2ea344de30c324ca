"""From records to a shared diagnostic classifier; everything here is post-processing of released data."""
