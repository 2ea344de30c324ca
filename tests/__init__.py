"""The tests. A folder that is a package may use the same file names as another."""
