"""
Virtual machines: QEMU's command line, a console that is followed, a verdict

Knows nothing about operations, so that the command line can use it as well.
"""
