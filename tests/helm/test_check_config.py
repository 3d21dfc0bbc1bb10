"""wechat-authz accepts the configuration that each scenario renders."""

import pathlib
import re
import ssl
import subprocess

import pytest
from chart import configuration


def certificate():
    """A certificate of this machine, for a ca_file."""
    place = ssl.get_default_verify_paths()
    for file in (place.cafile, "/etc/ssl/certs/ca-certificates.crt"):
        if file and pathlib.Path(file).is_file():
            text = pathlib.Path(file).read_text(encoding="utf-8")
            end = "-----END CERTIFICATE-----"
            return text[text.index("-----BEGIN") : text.index(end) + len(end)] + "\n"
    raise AssertionError("this machine has no certificates")


@pytest.fixture
def checked(program, tmp_path):
    """Runs check-config on a configuration whose mounted files exist."""
    secret = "0123456789abcdef0123456789abcdef"

    def run(text):
        (tmp_path / "wechat-authz.yaml").write_text(text, encoding="utf-8")
        command = [program, "check-config", tmp_path / "wechat-authz.yaml"]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def prepare(text):
        subprocess.run([program, "keygen", tmp_path / "keys"], check=True, capture_output=True)
        for folder, files in {
            "wechat": {appid: secret for appid in re.findall(r"appid: (wx[0-9a-f]{16})", text)},
            "redis": {"password": "a-password-of-redis", "ca.pem": certificate()},
            "admin": {"token": f"{secret}-token"},
        }.items():
            (tmp_path / folder).mkdir()
            for file, content in files.items():
                (tmp_path / folder / file).write_text(content, encoding="utf-8")
                (tmp_path / folder / file).chmod(0o600)
        return text.replace("/run/secrets/wechat-authz", str(tmp_path)).replace("/var/lib/wechat-authz", str(tmp_path))

    run.prepare = prepare
    return run


def test_check_config_accepts_the_configuration(scenario, checked):
    text = checked.prepare(configuration(scenario))
    done = checked(text)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\nof\n{text}"
    assert checked(text.replace("listen:", "lisssten:")).returncode != 0, "an unknown setting is accepted"
