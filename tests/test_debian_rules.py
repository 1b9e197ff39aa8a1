"""The rules in place of maintainer scripts, each on a system of one or two tiny packages."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from launcher.errors import ImageError
from launcher.image.debian import DebianTree
from launcher.image.debian.linker import order
from launcher.image.debian.shell import calls
from launcher.image.debian.x509 import certificates, subject_hash
from tests.debs import Package, file, folder, symlink
from tests.test_deb_compose import data, tree_of

CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIB+TCCAaCgAwIBAgIBATAKBggqhkjOPQQDAjBbMQswCQYDVQQGEwJERTEXMBUG
A1UECgwOICBTb21lICAgT1JHICAxITAMBgNVBAsMBcOcbml0MBEGA1UEAwwKVHdv
ICBXb3JkczEQMA4GA1UEAwwHVGVzdCBDQTAgFw0yNjExMjEwMjM1NDlaGA8yMTI2
MTAyODAyMzU0OVowWzELMAkGA1UEBhMCREUxFzAVBgNVBAoMDiAgU29tZSAgIE9S
RyAgMSEwDAYDVQQLDAXDnG5pdDARBgNVBAMMClR3byAgV29yZHMxEDAOBgNVBAMM
B1Rlc3QgQ0EwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQPtJWQ/W7IbjvtD7bo
Mly00DIU5XvmUu1+317szhi+PddHuuClCVsUBvtq8LljKjVEZ3NmGY1P2mm8iFbz
AlJao1MwUTAdBgNVHQ4EFgQUZwJJQkTYe4KzBPamHJDQuoDrxJIwHwYDVR0jBBgw
FoAUZwJJQkTYe4KzBPamHJDQuoDrxJIwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjO
PQQDAgNHADBEAiBJidkGHSbFs0hCrw9Zis8sSrsGA+DJiZSd0g01M99wdwIgS2An
DlEB/Z+IcWv7LgnWEO5EXEh2UnEqG6IYpcVlITs=
-----END CERTIFICATE-----
"""
BASE_PASSWD = Package(
    name="base-passwd",
    items=[
        file("./usr/share/base-passwd/passwd.master", "root:*:0:0:root:/root:/bin/bash\nx:*:100:100:x:/:/bin/sh\n"),
        file("./usr/share/base-passwd/group.master", "root:*:0:\nusers:*:100:\nnogroup:*:65534:\n"),
    ],
)


def text(tree: DebianTree, path: str) -> str:
    return data(tree.entries[path]).decode()


def test_what_rules_make_belongs_to_nobody(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, BASE_PASSWD)
    assert tree.owners["etc/passwd"] == "" and tree.owners["usr/share/base-passwd/passwd.master"] == "base-passwd"
    assert (
        tree.owners["var/lib/dpkg/status"] == "" and tree.owners["var/lib/dpkg/info/base-passwd.list"] == "base-passwd"
    )


def test_mount_points_are_there(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, Package())
    modes = {path: entry.mode for path, entry in tree.entries.items() if entry.kind == "dir"}
    for path in ("proc", "sys", "dev", "run", "workspace", "data", "opt/launcher", "var/cache/launcher", "home"):
        assert modes[path] == 0o755
    assert (modes["tmp"], modes["var/tmp"], modes["root"]) == (0o1777, 0o1777, 0o700)
    assert "127.0.0.1\tlocalhost\n" in text(tree, "etc/hosts")
    for path in ("etc/hostname", "etc/resolv.conf", "etc/machine-id"):
        assert text(tree, path) == ""


def test_base_files_puts_its_defaults_where_its_script_does(tmp_path: Path) -> None:
    items = [file("./usr/share/base-files/dot.bashrc", "rc"), folder("./var/run/"), file("./etc/motd", "own")]
    tree = tree_of(tmp_path, Package(name="base-files", items=[*items, file("./usr/share/base-files/motd", "theirs")]))
    assert text(tree, "root/.bashrc") == "rc" and text(tree, "etc/motd") == "own"
    assert (tree.entries["var/run"].kind, tree.entries["var/run"].target) == ("symlink", "/run")
    assert tree.entries["run/lock"].mode == 0o1777


def test_accounts_without_and_with_shadow_passwords(tmp_path: Path) -> None:
    assert text(tree_of(tmp_path, BASE_PASSWD), "etc/passwd").startswith("root:*:0:0:root:/root:/bin/bash\n")
    tree = tree_of(tmp_path, BASE_PASSWD, Package(name="passwd"))
    assert text(tree, "etc/passwd").startswith("root:x:0:0:root:/root:/bin/bash\n")
    assert text(tree, "etc/shadow").startswith("root:*:3652:0:99999:7:::\n")
    assert tree.entries["etc/shadow"].mode == tree.entries["etc/gshadow"].mode == 0o640


SYSUSERS = """\
# a comment
g   render 105
u   daemonic  -  "The Daemon"  /var/lib/daemonic
u!  fixed     300:nogroup
m   daemonic render
u   %b -
"""
POSTINST = """\
#!/bin/sh
if [ "$1" = configure ]; then
    adduser --quiet --system --group --no-create-home --home /run/web --gecos 'Web Server' web
    addgroup --system "$COMPUTED"
    # adduser --system commented
    groupadd -r readers && adduser web readers
fi
"""


def test_system_accounts_of_packages_have_the_same_numbers_each_time(tmp_path: Path) -> None:
    one = Package(name="one", items=[file("./usr/lib/sysusers.d/one.conf", SYSUSERS)])
    tree = tree_of(tmp_path, BASE_PASSWD, one, Package(name="two", scripts={"postinst": POSTINST}))
    assert text(tree, "etc/group").splitlines()[3:] == [
        "daemonic:!:101:",
        "readers:!:102:web",
        "render:!:105:daemonic",
        "web:!:103:",
    ]
    assert text(tree, "etc/passwd").splitlines()[2:] == [
        "daemonic:!:101:101:The Daemon:/var/lib/daemonic:/usr/sbin/nologin",
        "fixed:!:300:65534::/:/usr/sbin/nologin",
        "web:!:102:103:Web Server:/run/web:/usr/sbin/nologin",
    ]


def test_the_certificates_bundle_and_its_links(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, certificate_package(("Test CA (1)", CERTIFICATE), ("B", CERTIFICATE.rstrip("\n"))))
    assert text(tree, "etc/ssl/certs/ca-certificates.crt") == CERTIFICATE * 2
    assert text(tree, "etc/ca-certificates.conf").splitlines()[-2:] == ["x/B.crt", "x/Test CA (1).crt"]
    assert tree.entries["etc/ssl/certs/Test_CA_=1=.pem"].target == "/usr/share/ca-certificates/x/Test CA (1).crt"
    assert tree.entries["etc/ssl/certs/c75a806d.0"].target == "B.pem", "one link for one certificate"


def certificate_package(*named: tuple[str, str]) -> Package:
    items = [file(f"./usr/share/ca-certificates/x/{name}.crt", pem) for name, pem in named]
    return Package(name="ca-certificates", items=items)


def test_a_subject_is_hashed_as_openssl_does() -> None:
    """`openssl x509 -subject_hash` of OpenSSL 3.0 gave this value. The subject has runs of spaces, capital letters,
    a letter outside ASCII and two attributes in one name."""
    assert subject_hash(certificates(CERTIFICATE.encode())[0]) == "c75a806d"


@pytest.mark.parametrize("size", [0, 1, 10, 100])
def test_a_damaged_certificate_is_refused(tmp_path: Path, size: int) -> None:
    with pytest.raises(ValueError, match=r"certificate|DER"):
        subject_hash(certificates(CERTIFICATE.encode())[0][:size])


def test_a_package_with_a_damaged_certificate_is_named(tmp_path: Path) -> None:
    broken = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    with pytest.raises(ImageError, match=r"/usr/share/ca-certificates: B\.pem"):
        tree_of(tmp_path, certificate_package(("B", broken)))


EDITORS = """\
#!/bin/sh
update-alternatives --install /usr/bin/editor editor /usr/bin/{0} {1} \\
    --slave /usr/share/man/editor.1.gz editor.1.gz /usr/share/man/{0}.1.gz \\
    --slave /usr/bin/missing missing /usr/bin/missing.{0}
update-alternatives --install /usr/bin/gone gone /usr/bin/no-such-file 99
update-alternatives --install "/usr/bin/$NAME" "$NAME" /usr/bin/{0} 99
"""


def editor(name: str, priority: int) -> Package:
    items = [file(f"./usr/bin/{name}", "x", 0o755), file(f"./usr/share/man/{name}.1.gz", name)]
    return Package(name=name, items=items, scripts={"postinst": EDITORS.format(name, priority)})


def test_the_alternative_of_highest_priority_is_linked(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, editor("big", 30), editor("small", 40))
    assert tree.entries["usr/bin/editor"].target == "/etc/alternatives/editor"
    assert tree.entries["etc/alternatives/editor"].target == "/usr/bin/small"
    assert tree.entries["etc/alternatives/editor.1.gz"].target == "/usr/share/man/small.1.gz"
    assert not {"usr/bin/missing", "usr/bin/gone", "etc/alternatives/gone"} & set(tree.entries)
    state = text(tree, "var/lib/dpkg/alternatives/editor")
    assert state.startswith("auto\n/usr/bin/editor\neditor.1.gz\n/usr/share/man/editor.1.gz\n")
    assert state.index("/usr/bin/big\n30\n") < state.index("/usr/bin/small\n40\n")


def test_among_equals_the_first_path_is_taken(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, editor("bb", 10), editor("aa", 10))
    assert tree.entries["etc/alternatives/editor"].target == "/usr/bin/aa"


def test_a_file_is_never_replaced_by_an_alternative(tmp_path: Path) -> None:
    other = Package(name="other", items=[file("./usr/bin/editor", "mine")])
    assert text(tree_of(tmp_path, editor("big", 30), other), "usr/bin/editor") == "mine"


def test_alternatives_whose_names_scripts_compute_are_known(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, Package(name="procps", items=[file("./usr/bin/w.procps", "", 0o755)]))
    assert tree.entries["etc/alternatives/w"].target == "/usr/bin/w.procps"
    assert "usr/bin/uptime" not in tree.entries


SCRIPTS = {
    "tool a b": [["a", "b"]],
    "/usr/sbin/tool a": [["a"]],
    "if x; then tool a; fi": [["a"]],
    "x && tool a || tool b": [["a"], ["b"]],
    "tool 'a b' \"c d\" e'f'": [["a b", "c d", "ef"]],
    "tool a \\\n  b": [["a", "b"]],
    "tool a # b": [["a"]],
    "# tool a": [],
    "#x \\\ntool a": [["a"]],
    "cat <<EOF\ntool a\nEOF\ntool b": [["b"]],
    "tool $1": [],
    'tool "$x"': [],
    "tool `x`": [],
    "tool *.c": [],
    "tool-b a": [],
    "echo tool a": [],
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_simple_shell_is_read_and_the_rest_passed_over(script: str) -> None:
    assert list(calls(script, "tool")) == SCRIPTS[script]


def library(soname: str, machine: int = 62) -> bytes:
    """A shared object with nothing in it but a name."""
    strings = b"\0" + soname.encode() + b"\0"
    dynamic = struct.pack("<qQqQqQ", 5, 64 + 112 + 48, 14, 1, 0, 0)
    size = 64 + 112 + len(dynamic) + len(strings)
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = ident + struct.pack("<2HI3QI6H", 3, machine, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    load = struct.pack("<2I6Q", 1, 4, 0, 0, 0, size, size, 4096)
    return header + load + struct.pack("<2I6Q", 2, 4, 176, 176, 176, 48, 48, 8) + dynamic + strings


def cached(cache: bytes) -> list[tuple[str, str]]:
    """Read a cache as the loader does: (name, path) in order."""
    assert cache.startswith(b"glibc-ld.so.cache1.1")
    (count,) = struct.unpack_from("<I", cache, 20)
    found = []
    for number in range(count):
        flags, key, value = struct.unpack_from("<iII", cache, 48 + 24 * number)
        assert flags == 0x0303
        found.append(tuple(cache[at:].split(b"\0", 1)[0].decode() for at in (key, value)))
    return found  # type: ignore[return-value]


def test_the_linkers_cache_lists_libraries_in_the_loaders_order(tmp_path: Path) -> None:
    lib = "./usr/lib/x86_64-linux-gnu"
    items = [
        file("./etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n"),
        file("./etc/ld.so.conf.d/a.conf", "# multiarch\n/lib/x86_64-linux-gnu\n/usr/lib/x86_64-linux-gnu\n"),
        *(file(f"{lib}/libx.so.{n}.0", library(f"libx.so.{n}")) for n in (9, 10)),
        *(symlink(f"{lib}/libx.so.{n}", f"libx.so.{n}.0") for n in (9, 10)),
        symlink(f"{lib}/libx.so", "libx.so.10"),
        file(f"{lib}/libarm.so.1", library("libarm.so.1", 183)),
        file(f"{lib}/libtext.so", "INPUT(-lx)"),
        file(f"{lib}/plugins/libplugin.so", library("libplugin.so")),
    ]
    tree = tree_of(tmp_path, Package(name="libc-bin", items=items))
    names = ["libx.so.10", "libx.so.9", "libx.so"]
    assert cached(data(tree.entries["etc/ld.so.cache"])) == [(n, f"/lib/x86_64-linux-gnu/{n}") for n in names]


def test_the_order_of_names_is_the_loaders() -> None:
    """The cases of glibc's _dl_cache_libcmp: digits by value, digits above letters, the shorter first."""
    names = ["libfoo.so", "libfoo.so.1", "libfoo.so.2", "libfoo.so.10", "libfoo-1.so", "libfoo1.so"]
    assert sorted(names, key=order) == ["libfoo-1.so", *names[:4], "libfoo1.so"]


def test_graphviz_knows_its_plugins(tmp_path: Path) -> None:
    plugins = "./usr/lib/x86_64-linux-gnu/graphviz"
    items = [file(f"{plugins}/libgvplugin_{name}.so.6", "") for name in ("core", "dot_layout")]
    config = text(tree_of(tmp_path, Package(items=items)), f"{plugins[2:]}/config6a")
    assert config.startswith("libgvplugin_core.so.6 core {\n\tdevice {\n\t\tdot:dot 1\n")
    assert "libgvplugin_dot_layout.so.6" in config and "pango" not in config


def test_shells_are_listed_with_their_real_places(tmp_path: Path) -> None:
    items = [file("./usr/share/debianutils/shells", "# shells\n/bin/sh\n"), file("./bin/sh", "")]
    more = Package(
        name="dash",
        items=[file("./usr/share/debianutils/shells.d/dash", "/bin/dash\n")],
        scripts={"postinst": "#!/bin/sh\nadd-shell /usr/bin/tmux\n"},
    )
    shells = text(tree_of(tmp_path, Package(name="debianutils", items=items), more), "etc/shells")
    assert shells == "# shells\n/bin/sh\n/bin/dash\n/usr/bin/sh\n/usr/bin/dash\n/usr/bin/tmux\n"


def test_dpkgs_database(tmp_path: Path) -> None:
    one = Package(
        name="libone",
        items=[folder("./etc/"), file("./etc/one.conf", "1\n"), file("./lib/one", "x")],
        fields={"Multi-Arch": "same", "Homepage": "https://example.org", "Description": "short\n long"},
        scripts={"conffiles": "/etc/one.conf\n", "triggers": "interest-noawait /usr/lib\ninterest named\n"},
    )
    tree = tree_of(tmp_path, one)
    assert text(tree, "var/lib/dpkg/status") == (
        "Package: libone\nStatus: install ok installed\nInstalled-Size: 10\nArchitecture: amd64\nMulti-Arch: same\n"
        "Version: 1.0-1\nConffiles:\n /etc/one.conf b026324c6904b2a9cb4b88d6d61c81d1\nDescription: short\n long\n"
        "Homepage: https://example.org\n\n"
    )
    assert text(tree, "var/lib/dpkg/info/libone:amd64.list") == "/.\n/etc\n/etc/one.conf\n/lib/one\n"
    assert text(tree, "var/lib/dpkg/info/libone:amd64.conffiles") == "/etc/one.conf\n"
    assert text(tree, "var/lib/dpkg/triggers/File") == "/usr/lib libone:amd64/noawait\n"
    assert text(tree, "var/lib/dpkg/triggers/named") == "libone:amd64\n"


def test_time_zone_is_utc_where_zones_are_shipped(tmp_path: Path) -> None:
    assert "etc/localtime" not in tree_of(tmp_path, Package()).entries
    zone, old = (
        file("./usr/share/zoneinfo/Etc/UTC", "TZif2"),
        {"postinst": '#!/bin/sh\necho UTC > "$DPKG_ROOT/etc/timezone"\n'},
    )
    assert "etc/timezone" not in tree_of(tmp_path, Package(name="tzdata", items=[zone])).entries
    tree = tree_of(tmp_path, Package(name="tzdata", items=[zone], scripts=old))
    assert tree.entries["etc/localtime"].target == "/usr/share/zoneinfo/Etc/UTC"
    assert text(tree, "etc/timezone") == "Etc/UTC\n"


PROFILE = """\
Name: {0}
Default: yes
Priority: {1}
Auth-Type: Primary
Auth:
\t[success=end default=ignore]\tpam_{0}.so try_first_pass
Auth-Initial:
\t[success=end default=ignore]\tpam_{0}.so
"""


def test_pam_stacks_jump_over_the_rest_of_their_block(tmp_path: Path) -> None:
    items = [
        file("./usr/share/pam/common-auth", "# head\n$auth_primary\nauth\trequisite\tpam_deny.so\n$auth_additional\n"),
        file("./usr/share/pam/common-session", "$session_primary\n$session_additional\n"),
        *(
            file(f"./usr/share/pam-configs/{name}", PROFILE.format(name, n))
            for name, n in (("unix", 256), ("ldap", 128))
        ),
        file("./usr/share/pam-configs/off", PROFILE.format("off", 999).replace("Default: yes", "Default: no")),
    ]
    tree = tree_of(tmp_path, Package(name="libpam-runtime", items=items))
    assert text(tree, "etc/pam.d/common-auth") == (
        "# head\nauth\t[success=2 default=ignore]\tpam_unix.so \n"
        "auth\t[success=1 default=ignore]\tpam_ldap.so try_first_pass\nauth\trequisite\tpam_deny.so\n"
    )
    assert text(tree, "etc/pam.d/common-session") == "session\t[default=1]\t\t\tpam_permit.so\n"


HOSTILE_SCRIPT = """\
#!/bin/sh
update-alternatives --install /usr/bin/../../etc/passwd x /usr/bin/tool 1
update-alternatives --install /usr/bin/x ../../../etc/passwd /usr/bin/tool 1
update-alternatives --install /usr/bin/y .. /usr/bin/tool 1
update-alternatives --install /usr/bin/z z /usr/bin/tool --5
adduser --system 'evil:x:0:0'
adduser --system --gecos ':0:0' fine
"""


def test_what_scripts_and_data_say_leads_nowhere_else(tmp_path: Path) -> None:
    bad = Package(
        name="bad",
        items=[file("./usr/bin/tool", ""), file("./usr/lib/sysusers.d/bad.conf", 'u never "ends\nu a:b 0\n')],
        scripts={"postinst": HOSTILE_SCRIPT, "triggers": "interest ../../etc/group\ninterest ..\n"},
    )
    tree = tree_of(tmp_path, BASE_PASSWD, bad)
    assert text(tree, "etc/passwd") == "root:*:0:0:root:/root:/bin/bash\nx:*:100:100:x:/:/bin/sh\n"
    assert text(tree, "etc/group") == "root:*:0:\nusers:*:100:\nnogroup:*:65534:\n"
    assert not [path for path in tree.entries if "alternatives/" in path or ".." in path]


def test_a_rule_reads_no_file_that_would_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.image.debian.system.LARGEST_READ_BYTES", 10)
    with pytest.raises(ImageError, match=r"/etc/x: is 11 bytes long, too much"):
        tree_of(tmp_path, Package(items=[file("./etc/x", "x" * 11)], scripts={"conffiles": "/etc/x\n"}))
