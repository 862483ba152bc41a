"""Images as input of spiking networks: by rate, by latency, by saccades, pixel after pixel.

Nothing is imported here.
"""
