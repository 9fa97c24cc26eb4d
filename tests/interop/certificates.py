"""An authority and a certificate of its own for the server, made for one run of the suite."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from hosts import Host

# The relay's name, for clients that have to be told one.
NAME = "relay.interop.example"
# A run takes minutes; the dates only have to be wide enough for clocks that differ.
DAYS = "2"


@dataclass(frozen=True)
class Certificates:
    """Where the PEM files are, and whose they are."""

    authority: Path
    certificate: Path
    key: Path
    # The relay's IPv4 address, which NAME stands for.
    address: str


def make_certificates(folder: Path, relay: Host) -> Certificates:
    """A certificate for the relay's name and addresses."""
    made = Certificates(folder / "ca.pem", folder / "relay.pem", folder / "relay-key.pem",
                        relay.v4)
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl("req", "-x509", *curve, "-subj", "/CN=Sterna interop authority", "-days", DAYS,
            "-keyout", str(folder / "ca-key.pem"), "-out", str(made.authority))
    openssl("req", "-new", *curve, "-subj", "/CN=relay", "-keyout", str(made.key),
            "-out", str(folder / "relay.csr"))
    extensions = folder / "relay.cnf"
    extensions.write_text(f"subjectAltName=DNS:{NAME},IP:{relay.v4},IP:{relay.v6}\n"
                          "basicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n")
    openssl("x509", "-req", "-in", str(folder / "relay.csr"), "-CA", str(made.authority),
            "-CAkey", str(folder / "ca-key.pem"), "-CAcreateserial", "-days", DAYS,
            "-extfile", str(extensions), "-out", str(made.certificate))
    return made


def trust_database(folder: Path, authority: Path) -> None:
    """Have the NSS database in this folder trust the authority; browsers look it up there."""
    folder.mkdir(parents=True, exist_ok=True)
    database = f"sql:{folder}"
    run("certutil", "-N", "-d", database, "--empty-password")
    run("certutil", "-A", "-d", database, "-n", "interop", "-t", "C,,", "-i", str(authority))


def openssl(*argv: str) -> None:
    """Run openssl(1) and stop the suite with its message when it fails."""
    run("openssl", *argv)


def run(*argv: str) -> None:
    """Run a program that makes files and stop the suite with its message when it fails."""
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()}")
