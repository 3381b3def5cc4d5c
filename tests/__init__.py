# dffml must import in a source tree too, where no .pth has been installed
from dffml_operations_decentralice import compat

compat.install()
