"""
Other ways to a PID 1 than Wolfi's systemd, each an overlay that composes the root in
another way

What a way is for, and which of them boot: README.md. The name of the way is in the
image's os-release, as `FIELD`, and so in each report.
"""
