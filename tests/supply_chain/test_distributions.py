"""The wheel and the sdist, built, installed into a new environment, and used where the source is not."""

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import clinops_prefect

ROOT = Path(__file__).parents[2]
# What a table, an export or a key might come as.
DATA = (".csv", ".gz", ".parquet", ".ndjson", ".feather", ".db", ".sqlite", ".xlsx", ".pem", ".key", ".env")


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both; the wheel is built from the sdist, so that the sdist has all that it takes."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", out, ROOT, cwd=out)
    return out


def test_the_wheel_has_the_package_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "clinops_prefect").rglob("*.py")}
    assert sources | {"clinops_prefect/py.typed"} == {name for name in names if ".dist-info/" not in name}
    assert {"METADATA", "entry_points.txt", "WHEEL", "RECORD"} <= {name.rpartition("/")[2] for name in names}
    assert any("LICENSE" in name for name in names)


def test_pypi_would_take_both_and_show_the_readme_with_links_that_lead_somewhere(built: Path) -> None:
    run(sys.executable, "-m", "twine", "check", "--strict", *built.iterdir(), cwd=built)
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("METADATA"))
        metadata = archive.read(name).decode()
    assert f"Version: {clinops_prefect.__version__}\n" in metadata
    links = re.findall(r"\]\(([^)]+)\)", metadata)
    assert len(links) > 10
    assert [link for link in links if not link.startswith("https://")] == []


def test_the_sdist_has_the_tests_and_no_data(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        modes = {member.name: member.mode for member in archive.getmembers()}
    assert {"pyproject.toml", "README.md", "LICENSE", "constraints.txt", "Makefile", "CHANGELOG.md"} <= names
    assert {"tests/conftest.py", "tests/contract/test_names.py", "flows/icu_features.py"} <= names
    assert not [name for name in names if name.endswith(DATA)]
    assert not [name for name in names if name.startswith((".venv", ".git/", "demo", "build", "dist"))]
    assert not [name for name, mode in modes.items() if mode & 0o002]


def test_what_is_installed_works_without_the_source(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    run(sys.executable, "-m", "venv", tmp_path / "env", cwd=tmp_path)
    python = tmp_path / "env" / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run(
        *pip,
        "--constraint",
        ROOT / "constraints.txt",
        f"clinops-prefect[aws,azure,gcp] @ {wheel.as_uri()}",
        cwd=tmp_path,
    )
    script = tmp_path / "installed.py"
    script.write_text((ROOT / "tests" / "supply_chain" / "installed.py").read_text())
    # -I: neither the working directory nor PYTHONPATH nor the user's packages.
    assert "installed:" in run(python, "-I", script, ROOT, cwd=tmp_path)
    run(python, "-m", "pip", "check", cwd=tmp_path)
