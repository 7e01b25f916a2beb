# SPDX-License-Identifier: MIT
"""null comes and goes, and nobody can tell that it was there."""
import os


def in_memory(volume):
    with open(f"/proc/{volume.pid}/maps") as maps:
        return "/null.so" in maps.read()


def filters(volume):
    lines = volume.cli("filters", volume.mnt).stdout.splitlines()[1:]
    return {name: int(instances) for name, instances, *_ in map(str.split, lines)}


def test_it_is_loaded_attached_detached_and_unloaded(mount):
    volume = mount("mem:")
    assert filters(volume) == {} and not in_memory(volume)
    volume.cli("load", "null", volume.mnt)
    assert filters(volume) == {"null": 0} and volume.instances() == [] and in_memory(volume)
    volume.attach("null")
    volume.attach("null@1.5")
    assert filters(volume) == {"null": 2}
    assert [(one["instance"], one["altitude"]) for one in volume.instances()] == [("null", "370020"), ("null@1.5", "1.5")]
    volume.detach("null")
    assert [one["instance"] for one in volume.instances()] == ["null@1.5"]
    volume.cli("unload", "null", volume.mnt)       # takes what is attached with it
    assert filters(volume) == {} and volume.instances() == [] and not in_memory(volume)
    volume.attach("null")
    assert filters(volume) == {"null": 1} and in_memory(volume)


def work(place):
    """Some of everything; what was seen."""
    seen = []
    (place / "d").mkdir()
    (place / "d/f").write_bytes(b"content" * 1000)
    os.symlink("d/f", place / "s")
    os.link(place / "d/f", place / "l")
    seen.append((place / "s").read_bytes())
    seen.append(os.stat(place / "l").st_nlink)
    os.setxattr(place / "l", "user.a", b"1")
    seen.append(os.getxattr(place / "d/f", "user.a"))
    os.truncate(place / "l", 3)
    os.rename(place / "l", place / "d/m")
    seen.append(sorted(os.listdir(place / "d")))
    for missing in range(3):
        seen.append((place / "missing").exists())
    os.unlink(place / "d/m")
    seen.append((place / "d/f").read_bytes())
    return seen


def test_the_kernel_asks_the_same_questions_with_it(mount):
    """Not one operation more or less: what it does not want, nobody is asked for because of it."""
    answers = []
    for filters_ in ((), ("null",)):
        volume = mount("mem:", *filters_)
        seen = work(volume.mnt)
        counts = volume.stats()["operations"]
        for late in ("release", "releasedir"):     # nobody waits for these
            counts.pop(late)
        answers.append((seen, counts))
    assert answers[0] == answers[1]
    assert answers[0][1]["mkdir"] == 1 and answers[0][1]["write"] == 1


def test_the_kernel_passes_data_through_under_it(mount):
    counts = []
    for filters_ in ((), ("null",)):
        volume = mount("dir:", *filters_)
        (volume.tree / "f").write_text("content")
        assert (volume.mnt / "f").read_text() == "content"
        counts.append(volume.stats()["operations"]["read"])
    assert counts[0] == counts[1]
