import os
import pathlib
import shutil
from typing import Dict

import setuptools
from setuptools.command.build_py import build_py

PACKAGE = "dffml_operations_decentralice"
PTH = PACKAGE + ".pth"


class BuildPy(build_py):
    """
    Install two things which ``package_data`` cannot: the ``.pth`` beside the
    package, and the flows, which are outside of the package in the source tree

    https://setuptools.pypa.io/en/latest/userguide/extension.html
    """

    def run(self) -> None:
        if not self.editable_mode:
            # pip builds in the source tree: what was deleted there must not be
            # packed from an earlier build
            shutil.rmtree(pathlib.Path(self.build_lib, PACKAGE), ignore_errors=True)
        super().run()
        for target, source in self._extra().items():
            pathlib.Path(target).parent.mkdir(parents=True, exist_ok=True)
            self.copy_file(source, target, preserve_mode=False)

    def get_package_dir(self, package):
        # Without "./" in front, for which no file of MANIFEST.in is package data
        return os.path.normpath(super().get_package_dir(package))

    def get_outputs(self, include_bytecode=True):
        return [*super().get_outputs(include_bytecode), *self._extra()]

    def get_source_files(self):
        return [*super().get_source_files(), *self._extra().values()]

    def get_output_mapping(self) -> Dict[str, str]:
        return {**super().get_output_mapping(), **self._extra()}

    def _extra(self) -> Dict[str, str]:
        """Sources by targets."""
        root = pth_root = pathlib.Path(self.build_lib)
        if self.editable_mode:
            # Of what is in build_lib, editable installs take modules only
            install = self.distribution.get_command_obj("install")
            pth_root = pathlib.Path(install.install_lib)
        flows = {
            str(root / PACKAGE / flow): str(flow)
            for flow in sorted(pathlib.Path("dataflows").rglob("*.yaml"))
        }
        return {str(pth_root / PTH): PTH, **flows}


setuptools.setup(cmdclass={"build_py": BuildPy})
