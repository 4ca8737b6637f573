"""Many photos with one command: which ones, under which names, and several at a time."""
