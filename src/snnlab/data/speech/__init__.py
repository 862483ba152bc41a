"""Speech as spikes: an artificial cochlea, SHD's layout, a synthesiser, and ``spoken-digits``.

Nothing is imported here: the synthesiser's process loads one module of this package alone.
"""
