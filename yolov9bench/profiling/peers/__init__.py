"""Programs that run a peer, each in a Python that has it; they print one line of JSON at their end."""
