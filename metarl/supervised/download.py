"""Download of Omniglot's official zips, with checksums. Needs the extra `fewshot`: pooch.

A file appears under its name only when it is whole and its checksum is right; what is there already and right is kept.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path

from metarl.files import removed_if_empty

from .cache import data_folder

OMNIGLOT_URL = "https://github.com/brendenlake/omniglot/raw/master/python/"
# As tensorflow/datasets lists them (tensorflow_datasets/url_checksums/omniglot.txt) for these addresses. torchvision
# lists md5 68d2efa1b9178cc56df9314c21c6e718 and 6b91aef0f799c5bb55b94e3f2daec811.
OMNIGLOT_FILES = {
    "images_background.zip": "sha256:ad41ab679c8b5d90b271ef46be6987cc81211774a695c29dcc5367b2b26ee640",
    "images_evaluation.zip": "sha256:1f61a8f3366785b057fc117d9228e78a16e3d976c8953b2a10fcc74cf0609cee",
}
_TIMEOUT_S = 30
_CHUNK = 1 << 16


def fetch_omniglot(folder: Path | None = None, progress: bool = True) -> Path:
    """Download both parts of Omniglot (16 MB) unless they are there; returns their folder, for `omniglot`.

    folder: None for omniglot in `data_folder()`. Errors as in `fetch_files`.
    """
    folder = folder or data_folder() / "omniglot"
    fetch_files(OMNIGLOT_URL, OMNIGLOT_FILES, folder, progress)
    return folder


def fetch_files(base_url: str, checksums: Mapping[str, str], folder: Path, progress: bool = True) -> None:
    """Download files from one address into a folder; a file there with the right checksum is not asked for again.

    checksums: "sha256:..." by name. progress: bars on stderr.
    Raises ValueError if pooch is missing or a checksum is wrong, OSError without network or if the folder cannot be
    written. No partial file and no new empty folder is left, on Ctrl-C neither.
    """
    try:
        import pooch
        import requests
    except ImportError as error:
        raise ValueError(
            f"downloading needs the package {error.name}; install it with: pip install 'metarl[fewshot]' "
            "or give a local folder or zip instead (--data)"
        ) from error
    get = pooch.HTTPDownloader(progressbar=progress, chunk_size=_CHUNK, timeout=_TIMEOUT_S)
    files = pooch.create(path=folder, base_url=base_url, registry=dict(checksums))
    local = "or download the file in another way and give its folder (--data)"
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    with removed_if_empty(*new):
        for name in checksums:
            url = files.get_url(name)
            try:
                files.fetch(name, downloader=get)
            except requests.exceptions.HTTPError as error:
                raise OSError(f"the server refused {url} ({error}); try again later, {local}") from error
            except requests.exceptions.RequestException as error:
                raise OSError(
                    f"{url} could not be reached or broke off ({error}); check the network and try again, {local}"
                ) from error
            except ValueError as error:
                raise ValueError(
                    f"{url} has not the checksum {checksums[name]}, so nothing of it was kept; try again, {local} "
                    f"({error})"
                ) from error
            except OSError as error:
                full = "; the disk is full, make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
                raise OSError(
                    f"cannot write {name} into {folder}: {error.strerror or error}{full}; METARL_DATA names another "
                    "folder"
                ) from error
