"""The shared diagnostic classifier: what the centre trains and a hospital runs on its own clean X-rays."""
