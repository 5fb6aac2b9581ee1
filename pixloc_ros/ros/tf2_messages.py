"""Builds the message package tf2_msgs into this environment where it is missing.

The rclpy wheels on PyPI bring every message package but tf2_msgs, which TF needs. This
generates it from its one-line public definition, with the generators and the compiler that
a ROS distribution would have used, so type name and type hash are the same on the wire.

    python -m pixloc_ros.ros.tf2_messages
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import numpy

DEFINITION = "geometry_msgs/TransformStamped[] transforms\n"
# TFMessage holds a geometry_msgs type, which holds std_msgs and builtin_interfaces types
FASTRTPS, INTROSPECTION = "rosidl_typesupport_fastrtps_c", "rosidl_typesupport_introspection_c"
DEPENDENCIES = ("geometry_msgs", "std_msgs", "builtin_interfaces")


def available() -> bool:
    """Whether tf2_msgs can be imported, from a distribution or an earlier build."""
    return importlib.util.find_spec("tf2_msgs") is not None


def _generate(work: Path) -> None:
    from rosidl_cli.command.translate.api import translate
    from rosidl_generator_c.cli import GenerateC
    from rosidl_generator_py.cli import GeneratePython
    from rosidl_typesupport_c.cli import GenerateCTypesupport
    from rosidl_typesupport_fastrtps_c.cli import GenerateFastRTPSCTypesupport
    from rosidl_typesupport_introspection_c.cli import GenerateIntrospectionCTypesupport

    (work / "msg").mkdir()
    (work / "msg" / "TFMessage.msg").write_text(DEFINITION)
    share = Path(sys.prefix) / "share"
    include = [str(share / name) for name in DEPENDENCIES]
    idl = translate(
        package_name="tf2_msgs",
        interface_files=[f"{work}:msg/TFMessage.msg"],
        output_format="idl",
        include_paths=include,
        output_path=work / "idl",
    )
    output = work / "tf2_msgs"
    plain = "rosidl_typesupport_c"
    # Fast DDS serializes with the first and describes the type to others with the second
    implementations = [FASTRTPS, INTROSPECTION]
    for generator in (
        GenerateC("c"),
        GenerateFastRTPSCTypesupport("fastrtps_c"),
        GenerateIntrospectionCTypesupport("introspection_c"),
        GenerateCTypesupport("c", typesupport_implementations=implementations),
        GeneratePython("py", typesupport_implementations=[plain]),
    ):
        generator.generate("tf2_msgs", idl, include, output)


def _compile(work: Path, output: Path) -> Path:
    """Compile what was generated into `output`; returns the shared library beside it."""
    prefix = Path(sys.prefix)
    library = prefix / "lib"
    include = [
        work,
        prefix / "include",
        *(p for p in (prefix / "include").iterdir() if p.is_dir()),
    ]
    include += [Path(sysconfig.get_path("include")), Path(numpy.get_include())]
    flags = ["-O1", "-fPIC", *(f"-I{p}" for p in include)]
    ours = f"tf2_msgs__{FASTRTPS}"
    objects: dict[bool, list[str]] = {True: [], False: []}
    for source in sorted([*output.rglob("*.c"), *output.rglob("*.cpp")]):
        compiled = source.with_suffix(source.suffix + ".o")
        compiler = ["g++", "-std=c++17"] if source.suffix == ".cpp" else ["gcc"]
        subprocess.run([*compiler, *flags, "-c", str(source), "-o", str(compiled)], check=True)
        # the dispatcher and the Python conversion make the module; the rest is the library
        # that the dispatcher loads by its name
        module = source.name.endswith("_s.c") or source.name.endswith(".ep.rosidl_typesupport_c.c")
        module = module or (
            source.name == "tf_message__type_support.cpp" and source.parent.name == "msg"
        )
        objects[module].append(str(compiled))
    libraries = [
        f"-l{name}__{part}"
        for name in DEPENDENCIES
        for part in (
            "rosidl_generator_py",
            "rosidl_generator_c",
            FASTRTPS,
            INTROSPECTION,
            "rosidl_typesupport_c",
        )
    ]
    runtime = (
        FASTRTPS,
        INTROSPECTION,
        "rosidl_typesupport_c",
        "rosidl_runtime_c",
        "rcutils",
        "fastcdr",
    )
    libraries += [f"-l{name}" for name in runtime]
    link = ["g++", "-shared", f"-L{library}", f"-Wl,-rpath,{library}"]
    shared = work / f"lib{ours}.so"
    named = f"-Wl,-soname,{shared.name}"
    subprocess.run([*link, named, "-o", str(shared), *objects[False], *libraries], check=True)
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    extension = output / f"tf2_msgs_s__rosidl_typesupport_c{suffix}"
    subprocess.run(
        [*link, "-o", str(extension), *objects[True], str(shared), *libraries], check=True
    )
    return shared


def build() -> Path:
    """Generate, compile and install tf2_msgs into site-packages; returns its folder.

    Raises RuntimeError when the generators or the compiler fail.
    """
    target = Path(sysconfig.get_path("purelib")) / "tf2_msgs"
    # the generators look their templates up in the ament index of this environment
    os.environ["AMENT_PREFIX_PATH"] = sys.prefix
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        try:
            # the generators talk on stdout, and warn of entry points that the wheels list twice
            logging.disable(logging.WARNING)
            with contextlib.redirect_stdout(io.StringIO()):
                _generate(work)
            shared = _compile(work, work / "tf2_msgs")
            for name in (FASTRTPS, INTROSPECTION):  # one library answers for both
                shutil.copy2(shared, Path(sys.prefix) / "lib" / f"libtf2_msgs__{name}.so")
        except (ImportError, OSError, subprocess.CalledProcessError) as error:
            raise RuntimeError(f"tf2_msgs could not be built: {error}") from error
        finally:
            logging.disable(logging.NOTSET)
        output = work / "tf2_msgs"
        (output / "__init__.py").touch()
        staged = target.with_name("tf2_msgs.partial")
        shutil.rmtree(staged, ignore_errors=True)
        kept = shutil.ignore_patterns(
            "*.c", "*.cpp", "*.h", "*.hpp", "*.o", "*.json", "*.idl", "tmp", "detail"
        )
        shutil.copytree(output, staged, ignore=kept)
        os.replace(staged, target)
    return target


def main() -> int:
    if available():
        print("tf2_msgs is available")
        return 0
    print(f"built {build()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
