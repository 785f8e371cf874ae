"""Tests against a real ai-dynamo; they skip, and say so, where there is none."""
