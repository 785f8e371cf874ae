"""The worker's side: make a model's card, serve its files, tell the registry; and undo it."""
