"""Public keys for settings"""

import base64


def public_key(inside="ssh-ed25519", said="", comment="me@example.org", key=b"k" * 32):
    """A line of authorized_keys, whose type may stand twice, and differ"""
    parts = [inside.encode(), key] if key else [inside.encode()]
    blob = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    line = f"{said or inside} {base64.b64encode(blob).decode()}"
    return f"{line} {comment}" if comment else line


KEY = public_key()
