"""Reasoning in a model's reply, chosen by name."""
