"""Build of what is written in C, the one part that pyproject.toml cannot describe.

Without a compiler the package is built as pure Python; the reason is printed, and kept in a file
from which ``ratectl version`` and ``Agent.status`` repeat it.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any, Final

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError

CORE: Final = "ratectl.engine.native._fast"
SOURCES: Final = Path("core/ratectl/engine/native/csrc")
HTTP2: Final = "ratectl.sidecar._http2"
HTTP2_SOURCES: Final = Path("core/ratectl/sidecar/csrc")
FAILURE: Final = "build_failure.txt"
"""File beside the missing module: why it was not built. ``ratectl.engine`` reads it."""

# _FORTIFY_SOURCE bounds copies; some compilers define it already, at another level.
# Stack protectors are left out: they cost 2.6% more instructions per decision.
COMPILE: Final = [
    "-std=c11", "-O3", "-fvisibility=hidden", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2",
]  # fmt: skip
LINK: Final[list[str]] = []
if sys.platform == "linux":
    COMPILE.append("-fno-plt")
    # Full RELRO: the table of foreign functions is filled at load and read-only from then on.
    # Without symbols, which take three quarters of the file.
    LINK += ["-Wl,-z,relro,-z,now", "-Wl,-s"]


class BuildCore(build_ext):
    """Compiler of the core; a failure is reported and leaves a package in pure Python."""

    def run(self) -> None:
        inplace = self.inplace
        failure = ""
        try:
            super().run()
        except (BaseError, CCompilerError) as error:
            # Of a command that failed, its program; the arguments would fill a page.
            failure = re.sub(r"Command '\['([^']+)'.*\]'", r"\1", str(error)).rstrip(".")
            self.warn(f"THE COMPILED CORE WAS NOT BUILT: {failure}")
            self.warn("ratectl will decide in pure Python: the same answers, more slowly")
        roots = [Path(self.build_lib), *([Path("core")] if inplace else [])]
        for root in roots:
            self._note(root / self.get_ext_filename(CORE), failure)
            if failure:  # there is no compiler
                (root / self.get_ext_filename(HTTP2)).unlink(missing_ok=True)
        if failure:
            self.extensions = self.distribution.ext_modules = []

    @staticmethod
    def _note(module: Path, failure: str) -> None:
        """Keep the reason of a failure, and no module of an earlier build beside it."""
        note = module.with_name(FAILURE)
        if failure:
            module.unlink(missing_ok=True)
            note.parent.mkdir(parents=True, exist_ok=True)
            note.write_text(failure + "\n", "utf-8")
        else:
            note.unlink(missing_ok=True)


class Wheel(bdist_wheel):
    """Wheel for every CPython from 3.11, or for every Python where nothing was compiled."""

    def run(self) -> None:
        self.run_command("build")
        self.root_is_pure = not self.distribution.has_ext_modules()
        self.py_limited_api: Any = "cp311"
        super().run()


def extension(name: str, source: Path, **options: Any) -> Extension:
    """Return a module with one source, which includes the headers beside it."""
    return Extension(
        name,
        sources=[str(source)],
        depends=[str(header) for header in sorted(source.parent.glob("*.h"))],
        extra_compile_args=COMPILE,
        extra_link_args=LINK,
        py_limited_api=True,
        **options,
    )


setup(
    ext_modules=[
        extension(CORE, SOURCES / "_fast.c"),
        # Without it, the sidecar uses another server. It loads libnghttp2 when it is imported.
        extension(
            HTTP2,
            HTTP2_SOURCES / "_http2.c",
            optional=True,
            libraries=["dl"] if sys.platform == "linux" else [],
        ),
    ],
    cmdclass={"build_ext": BuildCore, "bdist_wheel": Wheel},
)
