"""``make bare``: README's two commands on systems that have nothing but Python, git and make.

    make bare                          all four systems, one after the other
    make bare ARGS=bookworm-user       one of SYSTEMS

Contents: the systems, which debootstrap makes of Debian's packages in the user's cache, and what
the commands said, took and left on the disk. They run on an overlay that is thrown away, in mount
and process namespaces of their own, so that nothing is left behind. The commit that is checked out
is what is tried. The lab's kernels are shared with them, read-only, and so is how this machine
reaches Debian's archive and Python's index. Needs root.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).parents[1])

from lab.apt import Apt
from lab.programs import cache_directory

CHECKOUT = Path(__file__).parents[2]
CACHE = cache_directory().with_name("gdb-rsp-bare")
SYSTEMS = ("bookworm-user", "trixie-user", "trixie-root", "bookworm-root")
HOMES = {"root": "/root", "user": "/home/user"}
NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
HOSTS = "127.0.0.1\tlocalhost\n::1\t\tlocalhost ip6-localhost ip6-loopback\n"

# How this machine reaches the network: variables, and files.
VARIABLES = re.compile(r"(PIP|SSL_CERT)_\w+|\w+_proxy|\w+_PROXY")
FILES = ("etc/resolv.conf", "etc/pip.conf", "etc/ssl/certs", "usr/local/share/ca-certificates")

# The first process within is bash, which waits for what its children leave.
PREPARE = """
set -e
mount -t overlay bare -o lowerdir={base},upperdir={scratch}/upper,workdir={scratch}/work {root}
mount -t proc proc {root}/proc
mount --rbind /dev {root}/dev
[ {user} = root ] || chroot {root} useradd --create-home {user}
for kernel in {kernels}; do
    at={root}{home}/.cache/gdb-rsp/${{kernel##*/}}
    mkdir -p $at
    mount --bind $kernel $at
    mount -o remount,bind,ro $at
done
exec chroot {root} setpriv --reuid={user} --regid={user} --init-groups \\
    env -i {environ} bash -c {run}
"""
RUN = """
cd && git -c advice.detachedHead=false clone -q /checkout.bundle gdb-rsp && cd gdb-rsp || exit
for target in demo test; do
    echo "$ make $target"
    began=$(date +%s)
    make $target; status=$?
    echo "bare: make $target: status $status, $(($(date +%s) - began)) s"
done
du -smx ~/gdb-rsp ~/.cache /var/cache/apt /var/lib/apt | sed 's/^/bare: MB /'
"""


def base(suite: str) -> Path:
    """Return the system that has nothing but Python, git and make."""
    root = CACHE / suite
    if not root.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            mirror = Apt(Path(scratch, "apt")).mirror()
            made = Path(scratch, "root")
            options = ["--variant=minbase", "--include=python3,git,make"]
            command = ["debootstrap", *options, suite, str(made), mirror]
            subprocess.run([*NAMESPACES, *command], check=True)
            subprocess.run(["chroot", made, "apt-get", "clean"], check=True)
            shutil.rmtree(made / "var/lib/apt/lists")
            made.rename(root)
    return root


def furnish(root: Path) -> None:
    """Give a system its names of hosts, and this machine's way to the network."""
    for name in FILES:
        if Path("/", name).exists():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "-rL", Path("/", name), (root / name).parent], check=True)
    (root / "etc/hosts").write_text(HOSTS)
    said = subprocess.run(["apt-config", "dump", "Acquire"], check=True, stdout=subprocess.PIPE)
    (root / "etc/apt/apt.conf.d").mkdir(parents=True)
    (root / "etc/apt/apt.conf.d/90bare").write_bytes(said.stdout)
    bundle = ["git", "bundle", "create", "-q", str(root / "checkout.bundle"), "HEAD"]
    subprocess.run(bundle, cwd=CHECKOUT, check=True)


def run(system: str, log: Path) -> None:
    """Run the two commands in one of SYSTEMS; what they print goes to the log."""
    suite, user = system.split("-")
    environ = {name: value for name, value in os.environ.items() if VARIABLES.fullmatch(name)}
    environ |= {"HOME": HOMES[user], "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
    kernels: list[Path] = []
    if system == "bookworm-root":
        environ["RSP_LAB"] = "required"
        kernels = [path for path in cache_directory().glob("linux-*-*") if path.is_dir()]
    bottom = base(suite)
    with tempfile.TemporaryDirectory(prefix=f"{system}-", dir=CACHE) as scratch:
        upper, root = Path(scratch, "upper"), Path(scratch, "root")
        for directory in (upper, root, Path(scratch, "work")):
            directory.mkdir()
        furnish(upper)
        script = PREPARE.format(
            base=bottom,
            home=HOMES[user],
            environ=shlex.join(f"{name}={value}" for name, value in environ.items()),
            kernels=shlex.join(map(str, kernels)),
            root=root,
            run=shlex.quote(RUN),
            scratch=scratch,
            user=user,
        )
        with log.open("w") as stream:
            subprocess.run(
                [*NAMESPACES, "bash", "-c", script],
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
            )


def summary(said: str) -> list[str]:
    """Return the lines that tell: what pytest counted, what was skipped, time and disk."""
    # Of what was skipped those lines that do not say what to install, or to make the lab.
    skipped = r"SKIPPED (?!.*: install |.*: make lab).*"
    wanted = rf"bare: .*|=+ .*\d (?:passed|skipped).*|(?:FAILED|ERROR) .*|{skipped}|make: .*"
    return re.findall(rf"^(?:{wanted})$", said, re.MULTILINE)


def main(systems: list[str]) -> int:
    """Try the systems, and say what was seen; return 1 unless all was green."""
    if unknown := set(systems) - {*SYSTEMS}:
        sys.exit(f"no such system: {', '.join(unknown)}; there are {', '.join(SYSTEMS)}")
    if os.geteuid() != 0:
        sys.exit("make bare needs root, to make systems of their own")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and so what is below ends, too
    failed = False
    for system in systems or SYSTEMS:
        log = CACHE / f"{system}.log"
        run(system, log)
        said = log.read_text(errors="replace")
        print(f"--- {system}, log in {log}", *summary(said), sep="\n", flush=True)
        failed |= len(re.findall(r"^bare: make \w+: status 0,", said, re.MULTILINE)) != 2
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
