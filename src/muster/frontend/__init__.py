"""The OpenAI HTTP service, the models it knows, and where their requests go."""
