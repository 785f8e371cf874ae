"""The OpenAI API: its requests, limits, replies and stream frames, and the routes that use them."""
