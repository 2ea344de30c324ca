"""What the installed mechanisms are measured to give away, beside what they claim: `ldp-client audit`."""
