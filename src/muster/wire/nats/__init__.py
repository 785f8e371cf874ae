"""The request plane over core NATS: requests and acknowledgements travel there, responses over TCP."""
