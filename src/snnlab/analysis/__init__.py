"""What a trained network does: recordings, measures and figures."""
