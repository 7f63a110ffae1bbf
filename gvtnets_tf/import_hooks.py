"""Import modules of the package as soon as another library is imported."""

import importlib
import sys


def import_after(library: str, *modules: str) -> None:
    """Import modules right after a library, or at once if the library is already imported.

    Python asks the finders of `sys.meta_path` for every module that it imports. One more
    finder waits there for the library, and leaves once the library is imported.

    Args:
        library: str. Name of a top-level package.
        modules: full names of the modules to import.
    """
    if library in sys.modules:
        _import_all(modules)
    else:
        sys.meta_path.insert(0, _ImportAfter(library, modules))


class _ImportAfter:
    # No `MetaPathFinder`: importing `importlib.abc` takes longer than the rest of the package.

    def __init__(self, library, modules):
        self.library, self.modules = library, modules

    def find_spec(self, fullname, path=None, target=None):
        if fullname != self.library:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        specs = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next(filter(None, specs), None)
        # A namespace package, such as an empty folder of that name, has no loader.
        if spec and spec.loader:
            self._extend(spec.loader)
        return spec

    def _extend(self, loader):
        """Let a loader import the modules once it has run the library."""
        exec_module = loader.exec_module

        def exec_then_import(module):
            exec_module(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
                _import_all(self.modules)

        loader.exec_module = exec_then_import


def _import_all(modules):
    for module in modules:
        importlib.import_module(module)
