"""The simulator as a provider, under either wire format; ``service.simulator`` is the server itself."""
