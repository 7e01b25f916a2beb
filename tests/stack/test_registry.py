# SPDX-License-Identifier: MIT
"""What a manifest says of its group and cannot mean is told, by the doctor and in the log of who starts it; it starts all the same."""
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
    ("FSFilter Encryption", "370020", "altitude 370020 of instance 'null' is outside of group 'FSFilter Encryption' (140000-149999)"),
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
