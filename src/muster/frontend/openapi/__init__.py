"""What this frontend serves, as an OpenAPI document and as a page."""
