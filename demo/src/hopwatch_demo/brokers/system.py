"""Debian packages, installed only where we are root and a command is missing."""

import os
import shutil
import subprocess
import threading

_lock = threading.Lock()  # brokers start in parallel, dpkg does not


def can_install() -> bool:
    """Whether this is a Debian-like machine on which we are root."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install(*packages: str) -> str:
    """Install Debian packages without questions; empty when done, else why it failed."""
    env = {
        **os.environ,
        "DEBIAN_FRONTEND": "noninteractive",
        "RUNLEVEL": "1",  # keeps invoke-rc.d from starting the daemon on its default port
    }
    apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300"]
    with _lock:
        for arguments in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
            done = subprocess.run(
                [*apt, *arguments],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            if done.returncode and arguments[0] == "install":
                return f"apt-get install {' '.join(packages)} failed: {done.stdout.strip()[-300:]}"
    return ""
