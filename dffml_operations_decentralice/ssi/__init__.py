"""
The Self-Sovereign Identity service as a client sees it

Knows nothing about operations or machines: an address is all that is needed.
"""
