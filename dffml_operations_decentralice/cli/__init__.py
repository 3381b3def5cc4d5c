"""``dffml service decentralice …``"""

from dffml.util.cli.cmd import CMD

from .build import Boot, Build, Explain, Status, Verify
from .host import CheckLoader, Doctor, Upstreams
from .overlay import Diagram, OverlayCommands, Settings
from .ssi import CredentialCommands, DidCommands, Vulnerabilities
from .store import StoreCommands


class DecentrAlice(CMD):
    """Build OS DecentrAlice, and prove that it boots"""

    build = Build
    status = Status
    explain = Explain
    verify = Verify
    boot = Boot
    overlay = OverlayCommands
    settings = Settings
    diagram = Diagram
    store = StoreCommands
    did = DidCommands
    credential = CredentialCommands
    vulnerabilities = Vulnerabilities
    doctor = Doctor
    upstreams = Upstreams


# As a member of the class, dffml would have it as `checkloader`
setattr(DecentrAlice, "check-loader", CheckLoader)
