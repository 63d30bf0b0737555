"""Files in a tar archive, of which Python's own reader does not say that it was cut off within a header.

with reading(f"{path} cannot be read"), tarfile.open(path, "r:") as archive:
    for member in files_in(archive):
        archive.extractfile(member).read()
"""

import tarfile
from collections.abc import Iterator


def files_in(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The regular files of an archive that can be searched. Raises EOFError, after the last, if its end is missing."""
    yield from (member for member in archive if member.isreg())
    archive.fileobj.seek(archive.offset)  # where the next header would be: an archive ends with blocks of zeros
    if len(archive.fileobj.read(tarfile.BLOCKSIZE)) < tarfile.BLOCKSIZE:
        raise EOFError("it ends without its last blocks, so it was cut off")
