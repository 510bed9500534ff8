"""Unpacks the sources of packages, `NAME==VERSION`, into directories with their names.

`pip download` would build them, with all that their builds need.
"""

import sys
import tarfile
import tempfile
from pathlib import Path

from pip._internal.commands import create_command

command = create_command("download")
with command.main_context():
    options, packages = command.parse_args(["--quiet", "--no-binary", ":all:", *sys.argv[1:]])
    session = command.get_default_session(options)
    finder = command._build_package_finder(options, session)
    for package in packages:
        name, version = package.split("==")
        found = finder.find_all_candidates(name)
        links = [candidate.link for candidate in found if str(candidate.version) == version]
        archives = [link for link in links if link.filename.endswith(".tar.gz")]
        answer = session.get(archives[0].url_without_fragment)
        answer.raise_for_status()
        with tempfile.TemporaryFile() as archive:
            archive.write(answer.content)
            archive.seek(0)
            tarfile.open(fileobj=archive).extractall(".", filter="data")
        Path(f"{name}-{version}").rename(name)
