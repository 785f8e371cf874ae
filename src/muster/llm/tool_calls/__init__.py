"""Tool calls in a model's reply: one file a format, chosen by name."""
