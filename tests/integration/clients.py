"""Official Python clients, each in an environment of its own: installed from the package registry into a cache, once.
Where that is not possible a test is skipped, in CI it fails.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from harness import seconds


def client_python(package, version):
    """The interpreter of a venv that has the client; installs it once."""
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "warmpath"
    folder = cache / f"{package}-{version}"
    python = folder / "bin" / "python"
    if python.exists():
        return python
    cache.mkdir(parents=True, exist_ok=True)
    # Made aside and moved into place: a broken install never looks like a whole one. Scripts in it would name the old
    # place; only its interpreter is used.
    made = tempfile.mkdtemp(dir=cache, prefix=f"{package}-{version}.")
    try:
        subprocess.run([sys.executable, "-m", "venv", made], check=True, capture_output=True, timeout=300)
        subprocess.run([made + "/bin/python", "-m", "pip", "install", "-q", f"{package}=={version}"], check=True,
                       capture_output=True, text=True, timeout=600)
        if not python.exists():
            os.rename(made, folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return python


def run_with(case, package, version, script, *args):
    """What a script that uses the client prints, as JSON."""
    try:
        python = client_python(package, version)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", "") or str(error)
        if os.environ.get("CI"):
            case.fail(f"{package} {version} could not be installed: {said}")
        case.skipTest(f"{package} {version} could not be installed: {str(said)[-300:]}")
    ran = subprocess.run([python, "-c", script, *args], capture_output=True, text=True, timeout=seconds(120),
                         check=False)
    case.assertEqual(ran.returncode, 0, ran.stderr[-4000:])
    return json.loads(ran.stdout)
