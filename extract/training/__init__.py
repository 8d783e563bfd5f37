"""Training of a baseline network."""
