"""The HTTP server beside a worker: health, metrics, callbacks, LoRAs."""
