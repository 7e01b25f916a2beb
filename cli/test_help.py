# SPDX-License-Identifier: MIT
"""--help, the man page and the completions name the same commands and options; mistakes are told in one line."""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
MAN = (ROOT / "cli/altitude.1.md").read_text()
SOURCES = {path.name: path.read_text() for path in (ROOT / "cli").glob("*.c")}
COMMANDS = re.findall(r"^\s*\.name = \"([a-z-]+)\",", "\n".join(SOURCES.values()), re.M)
COMPLETIONS = ROOT / "setup/completions"


def help_of(altitude, command):
    """(operands, {long: (letter, value)}) as --help tells them."""
    text = altitude(command, "--help").stdout
    operands = re.match(rf"usage: altitude {command} \[OPTION\]\.\.\.(?: (.*))?\n", text)[1] or ""
    options = {}
    for letter, name, value in re.findall(r"^  -(.), --([a-z-]+)(?: (\S+))?  ?", text, re.M):
        options[name] = (letter, value)
    assert options.pop("help") == ("h", "")
    return operands, options


def man_of(command):
    section = re.search(rf"^## {command}(?: ([^\n]*))?\n(.*?)^#", MAN, re.M | re.S)
    assert section, f"cli/altitude.1.md has no '## {command}'"
    options = {name: (letter, value) for letter, name, value in
               re.findall(r"^\*\*-(.)\*\*, \*\*\\--([a-z-]+)\*\*(?: \*(.+)\*)?$", section[2], re.M)}
    assert len(options) == len(re.findall(r"^\*\*-", section[2], re.M))
    return section[1] or "", options


def test_help_and_man_page_have_the_same_commands(altitude):
    text = altitude("--help").stdout
    listed = re.findall(r"^  ([a-z-]+)  +\S", text, re.M)
    assert sorted(listed) == sorted(COMMANDS)
    assert listed == re.findall(r"^## ([a-z-]+)", re.search(r"^# COMMANDS\n(.*?)^# ", MAN, re.M | re.S)[1], re.M)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_and_man_page_have_the_same_options(altitude, command):
    assert man_of(command) == help_of(altitude, command)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_opens_with_the_summary_of_the_list(altitude, command):
    summary = re.search(rf"^  {command} +(.*)$", altitude("--help").stdout, re.M)[1]
    assert altitude(command, "--help").stdout.splitlines()[2] == summary + "."
    assert altitude(command, "-h").stdout == altitude(command, "--help").stdout


def test_help_goes_to_standard_output_and_a_missing_command_to_standard_error(altitude):
    helped, lost = altitude("--help"), altitude(check=False)
    assert helped.stderr == "" and lost.stdout == ""
    assert helped.stdout == lost.stderr and lost.returncode == 2
    assert altitude("help").stdout == helped.stdout


def test_version_is_that_of_the_build(altitude):
    version = re.search(r"version: '([\d.]+)'", (ROOT / "meson.build").read_text())[1]
    assert altitude("--version").stdout == f"altitude {version}\n"


def test_environment_variables_that_are_read_are_in_the_man_page():
    read = set()
    for path in [*ROOT.glob("engine/*/*.c"), *ROOT.glob("cli/*.c")]:
        if not path.name.startswith("test_"):
            read |= set(re.findall(r'getenv\("(\w+)"\)', path.read_text()))
    section = re.search(r"^# ENVIRONMENT\n(.*?)^# ", MAN, re.M | re.S)[1]
    assert read == set(re.findall(r"^\*\*(\w+)\*\*$", section, re.M))


def test_status_values_that_are_told_are_in_the_man_page():
    table = dict(re.findall(r"X\((STATUS_\w+), +(0x[0-9A-F]{8})u,", (ROOT / "include/altitude/ntstatus.h").read_text()))
    told = set()
    for path in ROOT.glob("engine/*/*.c"):
        if not path.name.startswith("test_"):
            told |= set(re.findall(r"alt_error_status\(\w+(?:->\w+)?, (STATUS_\w+)", path.read_text()))
    section = re.search(r"^# DIAGNOSTICS\n(.*?)^# ", MAN, re.M | re.S)[1]
    explained = {name: number for number, name in re.findall(r"^(0x\w+) (STATUS_\w+)$", section, re.M)}
    assert explained == {name: table[name] for name in told}


# ---- completions ----

def test_bash_completes_what_help_tells(altitude):
    def complete(*words):
        script = f'. "{COMPLETIONS}/altitude.bash"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _altitude; printf "%s\\n" "${{COMPREPLY[@]}}"'
        done = subprocess.run(["bash", "-c", script, "bash", *words], env=dict(os.environ, PATH="/usr/bin:/bin"),
                              text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=True)
        assert done.stderr == ""
        return done.stdout.split()

    assert sorted(complete("altitude", "")) == sorted([*COMMANDS, "--help", "--version"])
    assert complete("altitude", "unm") == ["unmount"]
    for command in COMMANDS:
        known = [f"--{name}" for name in help_of(altitude, command)[1]]
        assert sorted(complete("altitude", command, "-")) == sorted([*known, "--help"])
    filesystems = sorted(f"{path.parent.name}:" for path in ROOT.glob("filesystems/*/*.7.md"))
    assert sorted(word for word in complete("altitude", "mount", "") if word.endswith(":")) == filesystems
    assert "nonempty" in complete("altitude", "mount", "-o", "no")


def test_fish_completes_what_help_tells(altitude):
    text = (COMPLETIONS / "altitude.fish").read_text()
    assert re.findall(r"__fish_use_subcommand -f -a (\S+)", text) == re.findall(r"^  ([a-z-]+)  +", altitude("--help").stdout, re.M)
    for command in COMMANDS:
        lines = re.findall(rf"__fish_seen_subcommand_from {command}' -s (.) -l (\S+) -(.)", text)
        said = {name: (letter, takes == "x") for letter, name, takes in lines}
        assert said.pop("help") == ("h", False)
        assert said == {name: (letter, bool(value)) for name, (letter, value) in help_of(altitude, command)[1].items()}


def test_zsh_completes_what_help_tells(altitude):
    text = (COMPLETIONS / "_altitude").read_text()
    assert re.findall(r"^\t\t['\"]([a-z-]+):", text, re.M) == re.findall(r"^  ([a-z-]+)  +", altitude("--help").stdout, re.M)
    blocks = {}
    for names, body in re.findall(r"^\t\t([a-z][a-z |-]*)\)(.*?);;", text, re.M | re.S):
        for name in names.split(" | "):
            blocks[name] = body
    for command in COMMANDS:
        said = {name: (letter, bool(value)) for letter, name, value in
                re.findall(r"\{-(.),--([a-z-]+)\}'\[[^]]*\](:?)", blocks[command])}
        assert said.pop("help") == ("h", False)
        assert said == {name: (letter, bool(value)) for name, (letter, value) in help_of(altitude, command)[1].items()}


@pytest.mark.parametrize("shell,file", [("bash", "altitude.bash"), ("zsh", "_altitude"), ("fish", "altitude.fish")])
def test_the_shell_reads_its_completions(shell, file):
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run([shell, "-n", COMPLETIONS / file], text=True, stderr=subprocess.PIPE)
    assert done.returncode == 0 and done.stderr == ""


def test_fish_offers_what_help_tells(altitude):
    if not shutil.which("fish"):
        pytest.skip("fish is not installed")

    def offers(line):
        script = f"source {COMPLETIONS}/altitude.fish; complete -C '{line}'"
        env = dict(mount_environment(), PATH=f"{os.path.dirname(altitude.__globals__['CLI'])}:/usr/bin:/bin")
        done = subprocess.run(["fish", "--no-config", "-c", script], env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=True)
        assert done.stderr == ""
        return [one.split("\t")[0] for one in done.stdout.splitlines()]

    assert sorted(offers("altitude ")) == sorted(COMMANDS)
    for command in COMMANDS:
        known = [f"--{name}" for name in help_of(altitude, command)[1]]
        assert sorted(offers(f"altitude {command} --")) == sorted([*known, "--help"])


# ---- mistakes ----

def one_line(done, code):
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert re.fullmatch(r"altitude[ :][^\n]+\n", done.stderr), done.stderr
    return done.stderr


# Arguments, as the table of commands judges them. DIR is an empty directory.
WRONG = [
    ("mout", "do you mean 'mount'"),
    ("unmout /mnt", "do you mean 'unmount'"),
    ("frobnicate", "is not a command"),
    ("xy", "is not a command; see 'altitude --help'"),
    ("--bogus", "'--bogus' is not an option"),
    ("-x mount", "'-x' is not an option"),
    ("help mout", "do you mean 'mount'"),
    ("help groups all", "'all' is one argument too many"),
    ("--help groups all", "'all' is one argument too many"),
    ("--version now", "'now' is one argument too many"),
    ("mount", "needs FS:ARG DIR"),
    ("mount mem: EMPTY", "'' is no directory to mount at"),
    ("mount -o ro=yes mem: DIR", "option 'ro' takes no value: say 'ro', not 'ro=yes'"),
    ("mount -o nonempty=1,noexec mem: DIR", "option 'nonempty' takes no value"),
    ("mount mem:", "needs FS:ARG DIR"),
    ("mount mem: DIR extra", "'extra' is one argument too many"),
    ("mount mem DIR", "'mem' is not FS:ARG; do you mean 'mem:'?"),
    ("mount /srv DIR", "'/srv' is not FS:ARG; do you mean 'dir:/srv'? See 'altitude mount --help'"),
    ("mount no/such DIR", "do you mean 'dir:no/such'?"),
    ("mount DIR mem:", "the file system comes first: 'altitude mount mem: "),
    ("mount :x DIR", "is not FS:ARG"),
    ("mount --bogus mem: DIR", "'--bogus' is not an option"),
    ("mount -Z mem: DIR", "'-Z' is not an option"),
    ("mount -FZr mem: DIR", "'-Z' is not an option"),
    ("mount --f null mem: DIR", "'--f' may be '--filter' or '--foreground'"),
    ("mount --filtr null mem: DIR", "do you mean '--filter'?"),
    ("mount --filtr=null mem: DIR", "do you mean '--filter'?"),
    ("mount --read-only=yes mem: DIR", "option '--read-only' takes no value"),
    ("mount mem: DIR -Fo", "option '-o' needs a value"),
    ("mount mem: DIR --filter", "option '--filter' needs a value"),
    ("mount mem: DIR -o", "option '-o' needs a value"),
    ("mount --filter @370020 mem: DIR", "names no filter"),
    ("mount --filter :op=read mem: DIR", "names no filter"),
    ("mount -o filter= mem: DIR", "names no filter"),
    ("mount -o filter mem: DIR", "option 'filter' needs a value"),
    ("unmount", "needs VOLUME"),
    ("unmount DIR DIR", "one argument too many"),
    ("unmount --force DIR", "'--force' is not an option"),
    ("mount-add DIR", "needs VOLUME DIR"),
    ("volumes DIR", "one argument too many"),
    ("instances DIR DIR", "one argument too many"),
    ("filters --xml", "'--xml' is not an option"),
    ("load", "needs FILTER"),
    ("mount-add mem: EMPTY", "'' is no directory to mount at"),
    ("load EMPTY", "'' names no filter"),
    ("load null@5", "'null@5' is more than a filter's name; altitude and options are for 'altitude attach'"),
    ("load trace:file=/x", "is more than a filter's name"),
    ("unload EMPTY", "'' names no filter"),
    ("attach EMPTY", "'' names no filter"),
    ("attach --altitude 5 null@6", "two altitudes, '6' and '5'; give one"),
    ("detach EMPTY DIR", "'' names no filter"),
    ("unload", "needs FILTER"),
    ("attach", "needs FILTER"),
    ("attach null DIR extra", "one argument too many"),
    ("attach --altitude", "option '--altitude' needs a value"),
    ("attach @5 DIR", "names no filter"),
    ("detach", "needs FILTER"),
    ("watch --twice", "'--twice' is not an option"),
    ("stats --csv DIR", "'--csv' is not an option"),
    ("groups all", "one argument too many"),
    ("doctor me", "one argument too many"),
]


@pytest.mark.parametrize("words,says", WRONG, ids=[words for words, _ in WRONG])
def test_wrong_arguments_are_one_line_and_exit_2(altitude, tmp_path, words, says):
    assert says in one_line(altitude(*[{"DIR": str(tmp_path), "EMPTY": ""}.get(word, word) for word in words.split()], check=False), 2)


# What the arguments name is not so. FULL holds a file, FILE is one, NONE is not there.
FAILS = [
    ("mount mem: NONE", "No such file or directory; make the directory first"),
    ("mount mem: NONE/below", "No such file or directory; make the directory first"),
    ("mount mem: FULL", "is not empty"),
    ("mount mem: FILE", "is not a directory"),
    ("mount nofs: DIR", "unknown file system 'nofs'"),
    ("mount nofs: DIR", "; check the name, or give a path [0xC0000034"),
    ("mount mme: DIR", "unknown file system 'mme': no mme.so in "),
    ("mount mme: DIR", "; do you mean 'mem'? [0xC0000034 STATUS_OBJECT_NAME_NOT_FOUND]"),
    ("mount hell: DIR", "do you mean 'hello'?"),
    ("mount --filter trcae mem: DIR", "; do you mean 'trace'? [0xC0000034 STATUS_OBJECT_NAME_NOT_FOUND]"),
    ("mount --filter content mem: DIR", "do you mean 'content_screener'?"),
    ("mount --filter zzzz mem: DIR", "; check the name, or give a path [0xC0000034"),
    ("mount null: DIR", "'null' is a filter, not a file system"),
    ("mount dir: DIR", "no directory given"),
    ("mount dir:NONE DIR", "cannot serve directory"),
    ("mount dir:FILE DIR", "Not a directory"),
    ("mount -o bogus=1 mem: DIR", "file system 'mem' has no option 'bogus'"),
    ("mount -o bogus dir:FULL DIR", "file system 'dir' has no option 'bogus'"),
    ("mount --timeout-ms soon mem: DIR", "is not a number of milliseconds"),
    ("mount -o ttl_ms=-1 mem: DIR", "is not a number of milliseconds"),
    ("mount -o transport=pigeon mem: DIR", "option 'transport=pigeon' of volume 'mem:' is neither devfuse nor uring"),
    ("mount -o ring_depth=257 mem: DIR", "is not a number of entries from 0 to 256"),
    ("mount --filter nosuch mem: DIR", "unknown filter 'nosuch'"),
    ("mount --filter NONE.so mem: DIR", "no module '"),
    ("mount --filter FULL/x mem: DIR", "cannot load module"),
    ("mount --filter mem mem: DIR", "'mem' is a file system, not a filter"),
    ("mount --filter hello mem: DIR", "'hello' is a file system, not a filter"),
    ("mount --filter null:bogus=1 mem: DIR", "filter 'null' has no option 'bogus'; see altitude-null(7)"),
    ("mount --filter trace:fil=x mem: DIR", "filter 'trace' has no option 'fil'"),
    ("mount --filter null@abc mem: DIR", "altitude 'abc' of filter 'null' is no decimal number"),
    ("mount --filter null@ mem: DIR", "is no decimal number"),
    ("mount --filter null@-5 mem: DIR", "is no decimal number"),
    ("mount --filter null@1e3 mem: DIR", "is no decimal number"),
    ("mount --filter null --filter null mem: DIR", "[0xC01C0012 STATUS_FLT_INSTANCE_NAME_COLLISION]"),
    ("mount --filter null --filter null mem: DIR", "a second one needs another altitude ('null@ALTITUDE')"),
    ("mount --filter nosuch mem: DIR", "[0xC0000034 STATUS_OBJECT_NAME_NOT_FOUND]"),
    ("mount --filter null --filter stats@370020.0 mem: DIR", "is taken by instance 'null'"),
    ("mount --filter delay mem: DIR", "say which operations"),
    ("mount --filter delay:op=raed mem: DIR", "'raed' is no operation"),
    ("mount --filter delay:op=read,ms=5 mem: DIR", "is no operation"),
    ("mount --filter delay:op=read:ms=soon mem: DIR", "is not a number"),
    ("mount --filter error:op=raed mem: DIR", "'raed' is no operation; do you mean 'read'?"),
    ("mount --filter error:op=open;wriet mem: DIR", "'wriet' is no operation; do you mean 'write'?"),
    ("mount --filter error:op=frobnicate mem: DIR", "'frobnicate' is no operation such as read or write"),
    ("mount --filter error mem: DIR", "say which operations: op=NAME"),
    ("mount --filter error:op=read:errno=EWHAT mem: DIR", "'EWHAT'"),
    ("unmount DIR", "no volume"),
    ("instances DIR", "no volume '"),
    ("attach null DIR", "no volume '"),
    ("attach null", "no volume is mounted by a server of yours; 'altitude mount' makes one"),
    ("stats", "no volume is mounted by a server of yours; 'altitude mount' makes one"),
    ("mount-add DIR NONE", "no volume '"),
]


def test_a_command_without_a_letter_is_not_guessed(altitude):
    assert one_line(altitude("", check=False), 2) == "altitude: '' is not a command; see 'altitude --help'\n"


def fill(words, tmp_path):
    for name in ("DIR", "FULL"):
        (tmp_path / name).mkdir()
    (tmp_path / "FULL/x").write_text("x")
    (tmp_path / "FULL/x").chmod(0o644)
    (tmp_path / "FILE").write_text("x")
    return [re.sub(r"DIR|FULL|FILE|NONE", lambda m: str(tmp_path / m[0]), word) for word in words.split()]


def mount_environment():
    return sys.modules["altitude_fixtures"].ENV


@pytest.fixture
def alone(altitude, tmp_path, monkeypatch):
    """The command line tool in a world without servers."""
    runtime = tmp_path / "runtime"
    monkeypatch.setitem(mount_environment(), "ALTITUDE_RUNTIME", str(runtime))
    return altitude


@pytest.mark.parametrize("words,says", FAILS, ids=[words for words, _ in FAILS])
def test_what_cannot_be_is_one_line_and_exit_1(alone, tmp_path, words, says):
    text = one_line(alone(*fill(words, tmp_path), check=False), 1)
    assert says in text
    with open("/proc/self/mountinfo") as mounts:
        assert str(tmp_path) not in mounts.read()


# Said to the server of a volume with null at 370020 and stats at 370045. MNT is where it is mounted.
REFUSED = [
    ("attach null MNT", "0xC01C0012 STATUS_FLT_INSTANCE_NAME_COLLISION"),
    ("attach trace@370020 MNT", "0xC01C0011 STATUS_FLT_INSTANCE_ALTITUDE_COLLISION"),
    ("attach --altitude 0370045.0 trace MNT", "0xC01C0011 STATUS_FLT_INSTANCE_ALTITUDE_COLLISION"),
    ("attach null MNT", "('null@ALTITUDE') and another name ('attach --instance NAME' gives it)"),
    ("attach --instance stats trace MNT", "is taken on 'mem:' by filter 'stats'; give another with --instance NAME"),
    ("attach --instance stats trace MNT", "0xC01C0012 STATUS_FLT_INSTANCE_NAME_COLLISION"),
    ("attach trace@high MNT", "0xC000000D STATUS_INVALID_PARAMETER"),
    ("attach trace:fil=x MNT", "filter 'trace' has no option 'fil'"),
    ("attach --instance= trace MNT", "an instance of filter 'trace' needs a name of one letter or more [0xC000000D"),
    ("attach nosuch MNT", "0xC0000034 STATUS_OBJECT_NAME_NOT_FOUND"),
    ("attach hello MNT", "'hello' is a file system, not a filter"),
    ("attach mem MNT", "'mem' is a file system, not a filter"),
    ("load null MNT", "0xC000010E STATUS_IMAGE_ALREADY_LOADED"),
    ("load nosuch MNT", "0xC0000034 STATUS_OBJECT_NAME_NOT_FOUND"),
    ("unload nosuch MNT", "0xC01C0013 STATUS_FLT_FILTER_NOT_FOUND"),
    ("detach nosuch MNT", "filter 'nosuch' is not attached to 'mem:'"),
    ("detach nosuch MNT", "0xC01C0015 STATUS_FLT_INSTANCE_NOT_FOUND"),
    ("detach trace MNT", "0xC01C0015 STATUS_FLT_INSTANCE_NOT_FOUND"),
    ("detach null MNT other", "no instance 'other' of filter 'null'"),
    ("watch --once MNT", "'altitude attach activity_monitor"),
    ("unmount MNT/none", "no volume"),
    ("mount-add MNT /", "mounting point '/' is not empty; choose an empty directory\n"),
    ("mount-add nosuch MNT", "no volume 'nosuch'"),
]


def test_what_a_server_refuses_is_one_line_and_exit_1(mount):
    volume = mount("mem:", "null", "stats")
    for words, says in REFUSED:
        done = volume.cli(*words.replace("MNT", str(volume.mnt)).split(), check=False)
        assert says in one_line(done, 1), words
    assert [(one["filter"], one["altitude"]) for one in volume.instances()] == [("stats", "370045"), ("null", "370020")]


# The volume's place where the filter belongs.
SWAPPED = ["attach MNT null", "attach MNT", "load MNT null", "unload MNT null", "detach MNT null"]


@pytest.mark.parametrize("words", SWAPPED)
def test_a_mounting_point_in_the_filters_place_is_told(mount, words):
    volume = mount("mem:")
    command, rest = words.split(None, 1)
    other = "null" if "null" in rest else "FILTER"
    text = one_line(volume.cli(*words.replace("MNT", str(volume.mnt)).split(), check=False), 2)
    assert f"is a mounting point, not a filter; the filter comes first: 'altitude {command} {other} {volume.mnt}'" in text


def test_an_instances_name_in_the_filters_place_is_told(mount):
    volume = mount("mem:")
    volume.cli("attach", "--instance", "second", "null", volume.mnt)
    text = one_line(volume.detach("second", check=False), 1)
    assert "'second' on 'mem:' is an instance of filter 'null': name the filter, the volume, then the instance" in text
    volume.cli("detach", "null", volume.mnt, "second")


def test_several_volumes_are_told_by_their_places(mount, tmp_path, monkeypatch):
    monkeypatch.setitem(mount_environment(), "ALTITUDE_RUNTIME", str(tmp_path / "runtime"))
    first, second = mount("mem:"), mount("mem:")
    text = one_line(first.cli("attach", "null", check=False), 1)
    assert text.startswith("altitude attach: 2 volumes are mounted; name one: ")
    assert set(text.split(": ")[2].strip().split(", ")) == {str(first.mnt), str(second.mnt)}
    text = one_line(first.cli("attach", "null", "mem:", check=False), 1)
    assert "'mem:' is the name of 2 volumes; name a mounting point: " in text
    first.attach("null")
    assert len(first.instances()) == 1 and second.instances() == []


def test_help_of_a_command_has_two_ways(altitude):
    assert altitude("help", "mount").stdout == altitude("mount", "--help").stdout


def test_a_busy_volume_stays_and_its_user_is_named(mount):
    volume = mount("mem:")
    (volume.mnt / "held").write_text("x")
    with open(volume.mnt / "held"):
        text = one_line(volume.cli("unmount", volume.mnt, check=False), 1)
        assert f"({os.getpid()})" in text or f" {os.getpid()}" in text
    assert (volume.mnt / "held").read_text() == "x"


# ---- what the machine is, as JSON ----

def test_doctor_and_groups_tell_programs_what_they_tell_people(altitude):
    groups = json.loads(altitude("groups", "--json").stdout)
    lines = altitude("groups").stdout.splitlines()[1:]
    assert [re.split(r" {2,}", line) for line in lines] == [[g["group"], str(g["low"]), str(g["high"]), g["purpose"]] for g in groups]
    told = altitude("doctor", "--json", check=False)
    lines = altitude("doctor", check=False).stdout.splitlines()
    seen = json.loads(told.stdout)
    assert [f"  {one['state']:<8} {one['what']:<22} {one['text']}" for one in seen] == lines[:len(seen)]
    assert (told.returncode == 1) == any(one["state"] == "MISSING" for one in seen)
