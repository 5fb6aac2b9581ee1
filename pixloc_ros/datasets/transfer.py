"""Files from HTTP servers: resumed, complete or absent, unpacked once."""

from __future__ import annotations

import hashlib
import http.client
import shutil
import tarfile
import time
import zipfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import Request, urlopen

from tqdm import tqdm

from pixloc_ros.errors import InputError

TRIES = 5
"""Connections that may break before a file is given up."""
TIMEOUT = 30.0
CHUNK = 2**18
BROKEN = (URLError, http.client.HTTPException, ConnectionError, TimeoutError)


class TransferError(InputError):
    """A file that could not be had, with its address and the reason."""


def fetch_file(url: str, target: Path, sha256: str = "", pause: float = 1.0) -> bool:
    """Download to a file; False where it was there already.

    What arrived before the connection broke is kept beside it and gone on with, as long as the
    server still has the same file. sha256: of the whole, where it is published. pause: seconds
    before another try, doubled each time. Raises TransferError.
    """
    if target.is_file():
        if sha256 and _digest(target) != sha256:
            raise TransferError(f"{target}: not what is published (its checksum differs)")
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    version = target.with_name(target.name + ".part.version")
    reason = ""
    for number in range(TRIES):
        if number:
            time.sleep(pause * 2 ** (number - 1))
        try:
            _continue(url, part, version)
            break
        except HTTPError as error:
            if error.code < 500:
                raise TransferError(f"{url}: {_said(error)}") from None
            reason = f"{error.code} {error.reason}"
        except BROKEN as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
    else:
        raise TransferError(
            f"{url}: {reason}; {TRIES} tries, {_size(part)} bytes are kept for the next"
        )
    if sha256 and _digest(part) != sha256:
        part.unlink()
        raise TransferError(f"{url}: not what is published (its checksum differs)")
    version.unlink(missing_ok=True)
    part.rename(target)
    return True


def _said(error: HTTPError) -> str:
    return f"the server says {error.code} {error.reason}"


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _continue(url: str, part: Path, version: Path) -> None:
    """Append what is missing. Raises what the connection raises."""
    begin = _size(part)
    headers = {"User-Agent": "pixloc_ros"}
    known = version.read_text() if version.is_file() else ""
    if begin and known:
        headers |= {"Range": f"bytes={begin}-", "If-Range": known}
    try:
        response = urlopen(Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        if error.code != 416:
            raise
        # there is nothing after what we have, or the file has changed: once more from the start
        part.unlink(missing_ok=True)
        raise ConnectionError("the server's file is shorter than what was kept") from None
    with response:
        if response.status != 206 or _first_byte(response.headers.get("Content-Range")) != begin:
            begin = 0
        length = response.headers.get("Content-Length")
        expected = begin + int(length) if length is not None else None
        free = shutil.disk_usage(part.parent).free
        if expected is not None and expected - begin > free:
            raise TransferError(f"{part.parent}: {expected - begin} bytes needed, {free} are free")
        tag = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
        version.write_text("" if tag.startswith("W/") else tag)
        with (
            part.open("ab" if begin else "wb") as file,
            tqdm(
                total=expected,
                initial=begin,
                unit="B",
                unit_scale=True,
                desc=part.name.removesuffix(".part"),
            ) as bar,
        ):
            while chunk := response.read(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    if expected is not None and _size(part) != expected:
        raise ConnectionError(f"the connection broke at {_size(part)} of {expected} bytes")


def _first_byte(content_range: str | None) -> int:
    """Of `bytes 100-199/200`; -1 where it says nothing."""
    words = (content_range or "").replace("bytes", "").strip().split("-")
    return int(words[0]) if words[0].isdigit() else -1


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found += [value for name, value in attrs if name == "href" and value]


def files_below(url: str, without: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """(address, path relative to url) of every file in a folder that a server lists.

    without: folders, relative, that are left out. Raises TransferError.
    """
    if not url.endswith("/"):
        url += "/"
    waiting, seen = [url], {url}
    while waiting:
        folder = waiting.pop()
        try:
            with urlopen(
                Request(folder, headers={"User-Agent": "pixloc_ros"}), timeout=TIMEOUT
            ) as r:
                page = r.read().decode("utf-8", "replace")
        except HTTPError as error:
            raise TransferError(f"{folder}: {_said(error)}") from None
        except BROKEN as error:
            raise TransferError(f"{folder}: {getattr(error, 'reason', error)}") from None
        links = _Links()
        links.feed(page)
        for link in links.found:
            address = urljoin(folder, link).split("?")[0].split("#")[0]
            if not address.startswith(url) or address in seen:
                continue
            seen.add(address)
            relative = unquote(address.removeprefix(url))
            if ".." in relative.split("/") or relative.startswith(tuple(w for w in without if w)):
                continue
            if address.endswith("/"):
                waiting.append(address)
            elif not relative.split("/")[-1].startswith("index.html"):
                yield address, relative


def file_name(url: str) -> str:
    return unquote(urlsplit(url).path.rsplit("/", 1)[-1])


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a .zip or .tar into a folder and delete it; interrupted, it is there to unpack again.

    Raises TransferError for what is damaged or points out of the folder.
    """
    try:
        if archive.suffix == ".zip":
            with zipfile.ZipFile(archive) as opened:
                names = [n for n in opened.namelist() if not n.endswith("Thumbs.db")]
                outside = next(
                    (n for n in names if n.startswith("/") or ".." in n.split("/")), None
                )
                if outside is not None:
                    raise TransferError(f"{archive}: {outside} points out of the folder")
                opened.extractall(folder, names)
        else:
            with tarfile.open(archive) as opened_tar:
                _extract_tar(opened_tar, archive, folder)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError) as error:
        raise TransferError(f"{archive}: cannot be unpacked ({error})") from None
    archive.unlink()


def _extract_tar(opened: tarfile.TarFile, archive: Path, folder: Path) -> None:
    """As tarfile's filter `data` does, which Python has since 3.11.4 only."""
    if hasattr(tarfile, "data_filter"):
        opened.extractall(folder, filter="data")
        return
    for member in opened.getmembers():
        outside = member.name.startswith("/") or ".." in member.name.split("/")
        if outside or not (member.isfile() or member.isdir()):
            raise TransferError(f"{archive}: {member.name} points out of the folder")
    opened.extractall(folder)
