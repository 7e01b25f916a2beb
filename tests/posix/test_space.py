# SPDX-License-Identifier: MIT
"""What limits the space of files below limits whoever writes, and never ends the server."""
import errno
import os
import resource
import shutil
import subprocess

import pytest

import altitude_fixtures
from altitude_calls import in_child, become

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
PAST = 3 << 20
MODES = pytest.mark.parametrize("options", [{}, {"passthrough": "no"}], ids=["passthrough", "served"])


def grow(path):
    """The errno, or 0, of each way to make a file longer."""
    def tried(call, *args):
        try:
            call(*args)
            return 0
        except OSError as error:
            return errno.errorcode[error.errno]

    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        return [tried(os.pwrite, fd, b"x" * 100, PAST), tried(os.ftruncate, fd, PAST + 4096),
                tried(os.truncate, path, PAST + 4096), tried(os.posix_fallocate, fd, PAST + 4096, 4096)]
    finally:
        os.close(fd)


@MODES
def test_the_limit_of_who_mounts_is_not_that_of_who_writes(mount, options):
    """ulimit -f in the shell that mounts: SIGXFSZ would end the server."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        volume = mount("dir:", **options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert grow(volume.mnt / "f") == [0] * 4


@MODES
def test_a_limit_of_the_server_is_an_error_of_the_call(mount, options):
    volume = mount("dir:", **options)
    resource.prlimit(volume.pid, resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    assert grow(volume.mnt / "f")[1:] == ["EFBIG"] * 3
    (volume.mnt / "f").write_bytes(b"it lives")
    assert (volume.tree / "f").read_bytes() == b"it lives"


@pytest.fixture
def small(tmp_path):
    """A file system of 16 MB, of which 40 of 100 are kept for root."""
    if not shutil.which("mkfs.ext4"):
        pytest.skip("mkfs.ext4 is not installed")
    image, place = tmp_path / "image", tmp_path / "small"
    with open(image, "wb") as f:
        f.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "40", image], check=True)
    place.mkdir()
    if subprocess.run(["mount", "-o", "loop", image, place], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("no loop devices, or no ext4, here")
    place.chmod(0o777)
    yield place
    subprocess.run(["umount", "-l", place], check=True)      # lazy: the volume on it ends after this


def fill(path, allocate):
    """In pieces of 64 KB, until there is no more; how many, at most as many as there can be."""
    fd = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    for n in range(256):
        try:
            if allocate:
                os.posix_fallocate(fd, n << 16, 1 << 16)
            else:
                assert os.write(fd, b"x" * (1 << 16)) == 1 << 16
        except OSError as error:
            assert error.errno == errno.ENOSPC
            break
        except AssertionError:
            break
    os.close(fd)
    return n


@root_only
@MODES
@pytest.mark.parametrize("allocate", [False, True], ids=["write", "allocate"])
def test_what_is_kept_for_root_is_kept(mount, small, options, allocate):
    volume = mount(f"dir:{small}", **options)

    def as_user():
        become(12001)
        os._exit(fill(volume.mnt / "f", allocate) >> 1)

    taken = in_child(as_user) << 1
    free = os.statvfs(small)
    assert taken > 60 and free.f_bavail * free.f_bsize < 1 << 17
    assert free.f_bfree * free.f_bsize > 5 << 20
    assert fill(volume.mnt / "roots", allocate) > 60


@root_only
def test_the_server_may_not_exceed_quotas(tmp_path):
    """In a namespace where it has the right that would let it, whatever is the case here."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "mnt").mkdir()
    done = subprocess.run(["unshare", "-Urmpf", "--mount-proc", "--kill-child", "bash", "-ec", f"""
        grep CapEff /proc/self/status
        {altitude_fixtures.CLI} mount -o nonempty dir:{tmp_path}/tree {tmp_path}/mnt
        echo text >{tmp_path}/mnt/f
        server=$({altitude_fixtures.CLI} volumes --json | sed -n 's/.*"pid": \\([0-9]*\\).*/\\1/p')
        grep -h CapEff /proc/$server/task/*/status
        {altitude_fixtures.CLI} unmount {tmp_path}/mnt
        tail --pid="$server" -f /dev/null
    """], env=dict(altitude_fixtures.ENV, ALTITUDE_RUNTIME=str(tmp_path)), text=True, capture_output=True, timeout=60)
    if not done.stdout:
        pytest.skip(f"no user namespaces here: {done.stderr}")
    assert done.returncode == 0, done.stderr
    mine, *threads = [int(line.split()[1], 16) >> 24 & 1 for line in done.stdout.splitlines()]      # CAP_SYS_RESOURCE
    assert mine and threads and not any(threads), done.stdout
