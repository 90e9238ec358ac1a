"""A certificate authority for one run, and the certificate that it gives to the proxies on loopback."""
import shutil
import subprocess

from .children import Failed

DAYS = 2
# A file of its own, so that the settings of the system's openssl do not matter.
SETTINGS = """
[req]
distinguished_name = nothing
prompt = no
[nothing]
CN = lsfast benchmark
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = IP:127.0.0.1
authorityKeyIdentifier = keyid
"""


class Authority:
    """Files in PEM: `ca` is what a client has to trust, `certificate` and `key` are what a server shows."""

    def __init__(self, folder):
        self.folder, self.binary = folder, shutil.which("openssl")
        if not self.binary:
            raise Failed("--tls makes a certificate with openssl, which is not in PATH: install it")
        self.ca, self.certificate, self.key = (folder / name for name in ("ca.pem", "server.pem", "server.key"))
        (folder / "openssl.cnf").write_text(SETTINGS)
        for name in ("ca", "server"):
            self._run("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.key")
        new = ["req", "-new", "-config", "openssl.cnf", "-sha256"]
        self._run(*new, "-x509", "-key", "ca.key", "-extensions", "authority", "-days", DAYS, "-out", "ca.pem")
        self._run(*new, "-key", "server.key", "-subj", "/CN=127.0.0.1", "-out", "server.csr")
        sign = ["x509", "-req", "-sha256", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-set_serial", 1]
        self._run(*sign, "-extfile", "openssl.cnf", "-extensions", "server", "-days", DAYS, "-out", "server.pem")

    def _run(self, *words):
        done = subprocess.run([self.binary, *map(str, words)], cwd=self.folder, capture_output=True, text=True)
        if done.returncode:
            raise Failed(f"openssl {words[0]} made no certificate for --tls:\n{done.stderr.strip()}")
