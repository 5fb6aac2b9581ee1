"""What the site has beside the pages of this folder: README and others, and what the code says.

mkdocs calls the functions named `on_...`. Links are written as they work in the repository; in
the site, files that are not pages are given along as they are.
"""

import contextlib
import io
import os
import posixpath
import re
from importlib import import_module
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "SECURITY.md": "SECURITY.md",
    "pixloc_ros/features/weights/MODEL_CARD.md": "pixloc_ros/features/weights/MODEL_CARD.md",
}
LINK = re.compile(r"(!?\[[^\]]*\])\(([^)#\s]+)(#[^)]*)?\)")


def in_site(path):
    """Where a file of the repository lies in the site."""
    return PAGES.get(path, path.removeprefix("doc/"))


def in_repository(page):
    """Where a page of the site lies in the repository."""
    back = {site: path for path, site in PAGES.items()}
    return back.get(page, f"doc/{page}")


def linked(page, text):
    """Paths in the repository that a page links to."""
    for match in LINK.finditer(text):
        if "://" not in match[2]:
            yield posixpath.normpath(posixpath.join(posixpath.dirname(page), match[2]))


def on_files(files, config):
    sources = {path: (ROOT / path).read_text() for path in PAGES}
    sources |= {f"doc/{p.name}": p.read_text() for p in (ROOT / "doc").glob("*.md")}
    for path, page in PAGES.items():
        files.append(File.generated(config, page, content=sources[path]))
    files.append(File.generated(config, "reference/commands.md", content=commands()))
    files.append(File.generated(config, "reference/parameters.md", content=parameters()))
    files.append(File.generated(config, "reference/python.md", content=python()))
    known = {file.src_uri for file in files}
    for page, text in sources.items():
        for path in linked(page, text):
            here = ROOT / path
            if here.is_file() and in_site(path) not in known:
                known.add(in_site(path))
                files.append(File.generated(config, in_site(path), abs_src_path=str(here)))
    return files


def on_page_markdown(markdown, page, **_):
    own = in_repository(page.file.src_uri)

    def relink(match):
        label, target, anchor = match[1], match[2], match[3] or ""
        if "://" in target:
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(own), target))
        if (ROOT / path).is_dir():
            return label.strip("[]")  # a folder is not a page
        there = posixpath.relpath(in_site(path), posixpath.dirname(page.file.src_uri) or ".")
        return f"{label}({there}{anchor})"

    return LINK.sub(relink, markdown)


def help_of(name):
    """What `--help` of a command prints."""
    os.environ["COLUMNS"] = "100"
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.suppress(SystemExit):
        import_module(f"pixloc_ros.cli.{name}").run(["--help"])
    return told.getvalue()


def commands():
    from pixloc_ros.cli.main import COMMANDS

    parts = [
        "# Commands",
        "`python -m pixloc_ros COMMAND`, `ros2 run pixloc_ros COMMAND` and, where pip installed "
        "it, `pixloc_ros COMMAND` are the same. This is what `--help` of each prints; "
        "`--debug` shows the traceback of an unexpected error.",
    ]
    for name, about in COMMANDS.items():
        said = help_of(name)
        if not said.startswith("usage:"):
            raise RuntimeError(f"{name} --help printed no usage: {said[:80]!r}")
        parts += [f"## {name}", f"{about[0].upper()}{about[1:]}.", f"```text\n{said}```"]
    return "\n\n".join(parts)


def parameters():
    from pixloc_ros.ros.parameters import described

    lines = [
        "# Parameters of the node",
        "",
        "Made from their declarations, as `ros2 param describe` shows them. Those marked as "
        "dynamic can be changed while the node is active.",
        "",
        "| parameter | default | allowed | dynamic | meaning |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, default, allowed, dynamic, about in described():
        shown = "empty" if default in ("", ()) else f"`{default}`"
        values = "" if not allowed else " to ".join(map(str, allowed))
        if allowed and isinstance(allowed[0], str):
            values = ", ".join(f"`{value}`" for value in allowed)
        lines.append(f"| `{name}` | {shown} | {values} | {'yes' if dynamic else ''} | {about} |")
    return "\n".join(lines) + "\n"


def python():
    import pixloc_ros

    names = [name for name in pixloc_ros.__all__ if not name.startswith("_")]
    homes = {name: getattr(pixloc_ros, name) for name in names}
    parts = ["# Python classes and functions", "See [the overview](../api.md) for what is stable."]
    parts += [f"::: {item.__module__}.{name}" for name, item in homes.items()]
    return "\n\n".join(parts) + "\n"
