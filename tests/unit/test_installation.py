"""The package as it is found: beside a user's own modules, and on the path without being installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from st3sweep import __version__

PROJECT = Path(__file__).parents[2]
RUN = PROJECT / "tests" / "data" / "run_0_1"
PROGRAM = Path(sys.executable).with_name("st3sweep")


@pytest.mark.long
@pytest.mark.parametrize(
    ("command", "kind"), [([sys.executable, "-m", "st3sweep"], "module"), ([str(PROGRAM)], "package")]
)
def test_a_module_of_the_user_named_analysis_is_not_imported(command: list[str], kind: str, tmp_path: Path) -> None:
    if not Path(command[0]).exists():
        pytest.skip("the program is not installed in this environment")
    own = tmp_path / "analysis.py" if kind == "module" else tmp_path / "analysis" / "__init__.py"
    own.parent.mkdir(exist_ok=True)
    own.write_text("raise SystemExit('the analysis of the user')")
    picture = tmp_path / "front.png"
    plot, pick = ["pareto", str(RUN), "--plot", str(picture)], ["pick", str(RUN)]
    for words in (plot, pick) if kind == "module" else (plot,):  # where the user's folder is on the path, both
        done = subprocess.run([*command, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def uninstalled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which this package is on the path and its dependencies are installed, but it is not."""
    dependencies, checkout = tmp_path_factory.mktemp("dependencies"), tmp_path_factory.mktemp("checkout")
    shutil.copytree(PROJECT / "st3sweep", checkout / "st3sweep", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "pyproject.toml", checkout)  # not the .egg-info that an editable installation leaves there
    for folder in {Path(entry) for entry in sys.path if Path(entry).name == "site-packages"}:
        for entry in folder.iterdir():
            if not (entry.name.startswith(("st3sweep", "__editable__")) or (dependencies / entry.name).exists()):
                (dependencies / entry.name).symlink_to(entry)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(checkout), str(dependencies)])}


def run_uninstalled(environment: dict[str, str], folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    # -S: the interpreter's own packages, and the path files among them, are not added
    command = [sys.executable, "-S", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_doctor_without_an_installation(uninstalled: dict[str, str], tmp_path: Path) -> None:
    done = run_uninstalled(uninstalled, tmp_path, "-m", "st3sweep", "doctor", "--json")
    assert done.returncode == 0, done.stderr
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    assert checks["st3sweep"]["state"] == "warn"
    assert checks["torch"]["state"] == "ok", "what it asks for is read from the checkout"
    assert checks["python"]["state"] == "ok"


def test_provenance_without_an_installation(uninstalled: dict[str, str], tmp_path: Path) -> None:
    code = "import json; from st3sweep.runs.provenance import provenance; print(json.dumps(provenance(None)))"
    done = run_uninstalled(uninstalled, tmp_path, "-c", code)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["st3sweep"] == __version__
    assert facts["packages"]["torch"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_a_built_distribution_works_where_nothing_else_of_it_is(kind: str, tmp_path: Path) -> None:
    """Built, installed beside the dependencies of this environment, and every data file of the package used."""
    source = tmp_path / "source"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, tracked.split("\0")):
        if (PROJECT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(PROJECT / name, source / name)
    built = tmp_path / "built"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    if kind == "sdist":
        code = f"from setuptools import build_meta; build_meta.build_sdist({str(built)!r})"
        tools = tmp_path / "tools"
        subprocess.run([*pip, "install", "--target", str(tools), "setuptools>=77"], check=True)
        built.mkdir()
        environment = {**os.environ, "PYTHONPATH": str(tools)}
        subprocess.run([sys.executable, "-c", code], cwd=source, env=environment, check=True, capture_output=True)
        (source,) = built.glob("*.tar.gz")
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(built), str(source)], check=True)
    (wheel,) = built.glob("*.whl")

    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "clean")], check=True)
    python = tmp_path / "clean" / "bin" / "python"
    subprocess.run([*pip, "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)], check=True)
    place = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True, text=True
    ).stdout.strip()
    # A path that a .pth file adds is not searched for further .pth files: an editable installation stays out.
    dependencies = [entry for entry in sys.path if Path(entry).name == "site-packages"]
    (Path(place) / "dependencies.pth").write_text("\n".join(dependencies))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    code = (
        "import st3sweep, pathlib; from st3sweep.analysis import tables\n"
        "root = pathlib.Path(st3sweep.__file__).parent\n"
        "print(root); print(len(tables.published())); print((root / 'py.typed').exists())\n"
        "print(len((root / 'analysis' / 'published' / 'README.md').read_text()) > 100)\n"
        "try:\n    import analysis\nexcept ImportError:\n    print('no global analysis')"
    )
    done = subprocess.run([python, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    root, points, *rest = done.stdout.splitlines()
    assert root.startswith(str(tmp_path / "clean")), done.stderr
    assert int(points) > 50
    assert rest == ["True", "True", "no global analysis"]
    (tmp_path / "analysis.py").write_text("raise SystemExit('the analysis of the user')")
    program = [str(python.with_name("st3sweep")), "pareto", str(RUN), "--plot", str(tmp_path / "front.png")]
    report = [program[0], "report", str(RUN), "--out", str(tmp_path / "report.html")]  # its page is package data
    for command in (
        program,
        report,
        [str(python), "-m", "st3sweep", "doctor"],
        [str(python), "-m", "st3sweep", "models"],
    ):
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
