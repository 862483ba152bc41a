"""A page about runs, made of what their folders hold: :func:`snnlab.report.write.write`."""
