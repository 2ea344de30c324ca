"""Examples that run: `python -m examples.demo` is what `make demo` calls."""
