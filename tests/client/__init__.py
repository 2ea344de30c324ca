"""Tests of the hospital's side."""
