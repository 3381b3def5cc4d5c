"""
Debian in the formats of Wolfi and Fedora

A signed ``.apk`` repository and a signed ``.rpm`` repository, made on the spot from
Debian packages which Debian's keys verified. The flow's own operations consume them:
only address and keys differ. For tests, and for where the upstreams are out of reach.
"""
