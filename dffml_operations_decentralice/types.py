"""
What flows from operation to operation: absolute paths of artefacts in the store

An artefact is an immutable file or directory. Its layout is told where it is made.
"""

from typing import NewType

# Wolfi's side
UserspaceRepository = NewType("UserspaceRepository", str)
UserspaceLock = NewType("UserspaceLock", str)
UserspacePackages = NewType("UserspacePackages", str)
UserspaceTree = NewType("UserspaceTree", str)
ToolsTree = NewType("ToolsTree", str)

# Fedora's side
KernelRepository = NewType("KernelRepository", str)
KernelLock = NewType("KernelLock", str)
KernelRpms = NewType("KernelRpms", str)
InitrdRpms = NewType("InitrdRpms", str)
FedoraTree = NewType("FedoraTree", str)
KernelModules = NewType("KernelModules", str)
Initrd = NewType("Initrd", str)

# The service
SsiServiceProgram = NewType("SsiServiceProgram", str)
SsiServicePackage = NewType("SsiServicePackage", str)
SsiServiceTree = NewType("SsiServiceTree", str)
VulnerabilityChecker = NewType("VulnerabilityChecker", str)
VulnerabilityReport = NewType("VulnerabilityReport", str)

# What clients of the service exchange: no artefacts
SsiServiceAddress = NewType("SsiServiceAddress", str)
IssuerDid = NewType("IssuerDid", str)
SubjectDid = NewType("SubjectDid", str)
SsiClaims = NewType("SsiClaims", dict)
SsiCredential = NewType("SsiCredential", str)
VerifiedClaims = NewType("VerifiedClaims", dict)

# The image
OsRelease = NewType("OsRelease", str)
Splash = NewType("Splash", str)
UnifiedKernelImage = NewType("UnifiedKernelImage", str)
RootTree = NewType("RootTree", str)
LoaderReport = NewType("LoaderReport", str)
PartitionTable = NewType("PartitionTable", str)
RootFileSystem = NewType("RootFileSystem", str)
EspFileSystem = NewType("EspFileSystem", str)
DiskImage = NewType("DiskImage", str)
Expectations = NewType("Expectations", str)
BootReport = NewType("BootReport", str)
SsiReport = NewType("SsiReport", str)
Result = NewType("Result", str)
PublishedResult = NewType("PublishedResult", str)
OciImage = NewType("OciImage", str)
PublishedOci = NewType("PublishedOci", str)

# Of several images: no artefacts
Overlays = NewType("Overlays", str)
ImageVerdict = NewType("ImageVerdict", dict)
