# SPDX-License-Identifier: MIT
"""What a manifest says of its group and cannot mean is told, by the doctor and in the log; it starts all the same."""
import pytest

MANIFEST = """[module]
Name=null
Kind=filter
Group={group}
Start={start}
DefaultInstance=null

[instance null]
Altitude={altitude}
"""


@pytest.mark.parametrize("start", ["boot", "auto", "demand"])
@pytest.mark.parametrize("group, number, says", [
    ("FSFilter Encryption", "141000.5", None),
    ("FSFilter Encryption", "370020",
     "altitude 370020 of instance 'null' is outside of group 'FSFilter Encryption' (140000-149999)"),
    ("FSFilter Encrypton", "141000", "there is no group 'FSFilter Encrypton'; see 'altitude groups'")])
def test_a_group_and_an_altitude_that_do_not_agree(mount, alone, start, group, number, says):
    (alone / "null.ini").write_text(MANIFEST.format(group=group, start=start, altitude=number))
    volume = mount("mem:")
    assert [one["altitude"] for one in volume.instances()] == ([] if start == "demand" else [number])
    line = f"manifest of filter 'null': {says}"
    assert (line in volume.said()) == bool(says and start != "demand"), volume.said()
    told = [line for line in volume.cli("doctor", check=False).stdout.splitlines() if " registry " in line]
    assert len(told) == 1
    assert told[0].split()[0] == ("note" if says else "ok") and (line if says else "1 manifest in ") in told[0]


# ---- the manifest decides what attaches, where, and who may ask for it ----

THREE = """[module]
Name=spy
Module=activity_monitor
Kind=filter
Group=FSFilter Activity Monitor
Start={start}
DefaultInstance=spy - Top Instance

[instance spy - Top Instance]
Altitude=385100
Flags={flags}

[instance spy - Middle Instance]
Altitude=370000
Flags={flags}

[instance spy - Bottom Instance]
Altitude=361000
Flags={flags}
"""
TOP, MIDDLE, BOTTOM = (f"spy - {place} Instance" for place in ("Top", "Middle", "Bottom"))


def seen(volume):
    return [(one["instance"], one["altitude"]) for one in volume.instances()]


def test_three_instances_that_attach_by_name_alone(mount, alone):
    """As the spy sample has them: Flags=1, nothing comes by itself."""
    (alone / "spy.ini").write_text(THREE.format(start="auto", flags=1))
    volume = mount("mem:")
    assert seen(volume) == []
    volume.attach("spy")
    assert seen(volume) == [(TOP, "385100")]                   # the default one
    volume.cli("attach", "--instance", BOTTOM, "spy", volume.mnt)
    volume.cli("attach", "--instance", MIDDLE, "spy", volume.mnt)
    assert seen(volume) == [(TOP, "385100"), (MIDDLE, "370000"), (BOTTOM, "361000")]
    again = volume.cli("attach", "--instance", MIDDLE, "spy", volume.mnt, check=False)
    assert again.returncode == 1 and "STATUS_FLT_INSTANCE_NAME_COLLISION" in again.stderr
    (volume.mnt / "f").write_text("text")
    for name in (TOP, MIDDLE, BOTTOM):                          # each has a record of its own
        assert volume.report(name)["seen"][0] > 0
    volume.cli("detach", "spy", volume.mnt, MIDDLE)
    assert seen(volume) == [(TOP, "385100"), (BOTTOM, "361000")]
    volume.cli("unload", "spy", volume.mnt)
    assert seen(volume) == []


def test_instances_that_come_by_themselves_and_not_by_hand(mount, alone):
    (alone / "spy.ini").write_text(THREE.format(start="auto", flags=2))
    volume = mount("mem:", "null")
    assert seen(volume) == [(TOP, "385100"), ("null", "370020"), (MIDDLE, "370000"), (BOTTOM, "361000")]
    volume.cli("detach", "spy", volume.mnt, MIDDLE)
    refused = volume.cli("attach", "--instance", MIDDLE, "spy", volume.mnt, check=False)
    assert refused.returncode == 1 and "is not to be attached by hand" in refused.stderr
    assert "STATUS_FLT_DO_NOT_ATTACH" in refused.stderr


@pytest.mark.parametrize("start, comes", [("boot", True), ("system", True), ("auto", True), ("demand", False),
                                          ("disabled", False)])
def test_the_start_type_decides_who_comes_with_the_volume(mount, alone, start, comes):
    (alone / "spy.ini").write_text(THREE.format(start=start, flags=0))
    assert len(mount("mem:").instances()) == (3 if comes else 0)


@pytest.mark.parametrize("start", ["boot", "system", "auto"])
def test_a_guard_that_does_not_come_is_no_mount(alone, mount, start):
    """Who starts at boot or with the system guards the volume; another one is missed with a word."""
    (alone / "spy.ini").write_text(THREE.format(start=start, flags=0).replace("Module=activity_monitor", "Module=nowhere"))
    if start == "auto":
        volume = mount("mem:")
        assert volume.instances() == []
        assert "filter 'spy' does not start: " in volume.said() and "no nowhere.so in" in volume.said()
        return
    with pytest.raises(AssertionError, match="does not start: .*no nowhere.so in"):
        mount("mem:")
