"""OpenAI's Responses API over the chat path. Nothing is kept between requests."""
