"""What travels in the wheel, and what an editable install finds."""

import ast
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from gpt2cli import paths

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.mark.long
def test_the_wheel_carries_models_and_completions(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for file in ("tiny.toml", "tiny/config.json", "tiny/tokenizer.json", "tiny/model.onnx", "tiny/weights.safetensors"):
        assert f"gpt2cli/models/{file}" in names
    assert "gpt2cli/py.typed" in names
    for path in (ROOT / "gpt2cli").rglob("*.*"):
        if path.suffix in (".css", ".js", ".html", ".svg"):
            assert path.relative_to(ROOT).as_posix() in names
    for file in ("gpt2.bash", "_gpt2", "gpt2.fish", "gpt2.ps1"):
        assert f"gpt2cli/completions/{file}" in names
    assert not [name for name in names if name.startswith(("models/", "completions/", "tests/"))]
    assert not [name for name in names if "/models/" in name and name.endswith(".py")]
    assert wheel.stat().st_size < 12_500_000


@pytest.mark.long
def test_the_readme_and_its_pages_travel(wheel, tmp_path):
    metadata = next(name for name in zipfile.ZipFile(wheel).namelist() if name.endswith("/METADATA"))
    assert (ROOT / "README.md").read_text(encoding="utf-8") in zipfile.ZipFile(wheel).read(metadata).decode()
    command = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    pages = [path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").iterdir() if path.is_file()]
    assert names >= {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "pyproject.toml", *pages}


@pytest.mark.long
def test_an_unpacked_wheel_finds_its_own_data_and_runs(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from gpt2cli import paths; print(paths.data('models'));"
        "from gpt2cli.cli import main; sys.exit(main(['generate', '-n', '3', 'Once']))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[0] == str(tmp_path / "gpt2cli/models")


# Functions of more than eight parameters: options of the library that stand by themselves.
MANY = {("model.py", "load"), ("texts.py", "generate"), ("receipts.py", "receipt")}


@pytest.mark.long
def test_no_function_takes_more_than_eight_parameters():
    many = set()
    for path in (ROOT / "gpt2cli").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                names = [one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
                if len(set(names) - {"self", "cls"}) > 8:
                    many.add((path.name, node.name))
    assert many <= MANY


def test_an_editable_install_finds_the_repository(wheel):
    package = Path(paths.__file__).parent
    if package.parent != ROOT:
        pytest.skip("not installed with -e")
    for name in ("models", "completions"):
        assert paths.data(name) == ROOT / name
        assert not (package / name).exists(), "a stale copy beside the code"
