"""
Everything that checks kvsync, alike on a desk and in CI: `nox -l` lists it, a bare `nox` runs what a change must pass.

A session installs what it needs from `pyproject.toml`, and passes on what stands behind `--`:

    nox -s unit -- tests/unit/stream -k restart
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
from pathlib import Path

import nox
from nox.command import CommandFailed

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "uv|venv"
nox.options.error_on_external_run = True

PYPROJECT = nox.project.load_toml("pyproject.toml")
PYTHON_PATHS = ["src", "tests", "benchmarks", "noxfile.py"]
C_PATTERNS = [
    "csrc/include/**/*.h",
    "csrc/src/**/*.[ch]",
    "csrc/tests/**/*.[ch]",
    "csrc/fuzz/*.[ch]",
    "benchmarks/driver/*.[ch]",
]
WORKFLOWS = sorted(Path(".github/workflows").glob("*.yml"))
MANIFESTS = sorted(Path("deploy").rglob("*.yaml"))
STORIES = sorted(Path("tests/e2e").rglob("test_*.py"))

CC = (os.environ.get("CC") or "cc").split()[0]

# The unit tier, and all that plays the recorded streams.
SANITIZED_TESTS = [
    "tests/unit",
    "tests/integration/test_capture_match.py",
    "tests/integration/test_capture_truth.py",
    "tests/integration/test_cli_capture.py",
    "tests/integration/test_serve_streams.py",
    "tests/integration/test_stream_following.py",
    "tests/integration/test_stream_receiver.py",
    "tests/integration/test_stream_sockets.py",
]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g"]

HARNESSES = ["payload", "operations"]

# A bare `nox`. The stories join as soon as there are any.
nox.options.sessions = ["lint", "unit", "integration", *(["e2e"] if STORIES else [])]


def group(name: str) -> tuple[str, ...]:
    """The requirements of a dependency group."""
    return nox.project.dependency_groups(PYPROJECT, name)


def need(session: nox.Session, *programs: str) -> None:
    """Stop with a remedy when a program that pip cannot bring is missing."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        session.error(
            f"not found: {', '.join(missing)}. The C core needs a C11 compiler and make: "
            "`apt-get install gcc make` (Debian), `dnf install gcc make` (Fedora), "
            "or name a compiler in CC."
        )


def install_for_tests(session: nox.Session) -> None:
    """Install kvsync in place, so that no stale copy in `build/` is what gets tested, and the test tools."""
    need(session, CC)
    session.install("-e", ".", *group("test"))


def pytest(session: nox.Session, tests: list[str], *options: str, env: dict[str, str] | None = None) -> None:
    """Run pytest over `tests`, or over the paths named behind `--`."""
    named = any(Path(argument.split("::")[0]).exists() for argument in session.posargs)
    session.run("python", "-m", "pytest", *options, *([] if named else tests), *session.posargs, env=env)


def passes(session: nox.Session, *command: str) -> bool:
    """Run one check; all of them are run, so that one round shows everything there is to mend."""
    try:
        session.run(*command, env={"PYTHONPATH": "src"})
    except CommandFailed:
        return False
    return True


def c_sources() -> list[str]:
    """Our own C, which excludes what is vendored."""
    return sorted({str(path) for pattern in C_PATTERNS for path in Path().glob(pattern)})


@nox.session
def lint(session: nox.Session) -> None:
    """Check form, types, the walls between rooms, C form, YAML, workflows and manifests; changes nothing."""
    # The dependencies, because types come from them; not kvsync itself, so that no compiler is needed.
    session.install(*PYPROJECT["project"]["dependencies"], *group("lint"), *group("test"), "nox")
    checks: list[tuple[str, ...]] = [
        ("ruff", "format", "--check", "."),
        ("ruff", "check", *session.posargs, "."),
        ("clang-format", "--dry-run", "--Werror", *c_sources()),
        ("yamllint", "--strict", "."),
        ("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *map(str, WORKFLOWS)),
        ("kubernetes-validate", "--strict", "--quiet", *map(str, MANIFESTS)),
        ("lint-imports", "--no-cache", "--no-logo"),
        ("mypy", *PYTHON_PATHS),
    ]
    unhappy = [check[0] for check in checks if not passes(session, *check)]
    if unhappy:
        session.error(f"see above: {', '.join(unhappy)}; `nox -s format` mends what is only form")


@nox.session(name="format")
def format_(session: nox.Session) -> None:
    """Bring Python and C into form, and mend what ruff can mend."""
    session.install(*group("format"))
    session.run("ruff", "check", "--fix", *session.posargs, ".")
    session.run("ruff", "format", ".")
    session.run("clang-format", "-i", *c_sources())


@nox.session
def unit(session: nox.Session) -> None:
    """Test each room alone: the C core by its own program (plain, then with sanitizers), the rest by pytest."""
    need(session, CC, "make")
    install_for_tests(session)
    if not session.posargs:
        session.run("make", "-C", "csrc", "test", external=True)
        session.run("make", "-C", "csrc", "test-asan", external=True)
    pytest(session, ["tests/unit"], "-n", "auto")


@nox.session(name="simulate-faults")
def simulate_faults(session: nox.Session) -> None:
    """Play faults drawn from seeds against stream, index and snapshots: `-- --seeds 200000`, `-- --seed 17 --log`."""
    install_for_tests(session)
    session.run("python", "-m", "kvsync.testing.faults", *session.posargs)


@nox.session
def integration(session: nox.Session) -> None:
    """Test rooms that meet, over real sockets, files and processes on this machine."""
    install_for_tests(session)
    pytest(session, ["tests/integration"], "-n", "auto")


@nox.session
def e2e(session: nox.Session) -> None:
    """Test whole stories through the command line; those marked slow only with `-- -m slow`."""
    if not STORIES:
        session.skip("there are no stories yet: tests/e2e/test_*.py")
    install_for_tests(session)
    pytest(session, ["tests/e2e"], "-m", "not slow", "--timeout", "300")


@nox.session
def conformance(session: nox.Session) -> None:
    """Hold our double of an API server to the cases, or the cluster of `-- --kubeconfig FILE`, in its own namespace."""
    parser = argparse.ArgumentParser(prog="nox -s conformance --", description="What is not known here goes to pytest.")
    parser.add_argument("--kubeconfig", help="the cluster to run against (default: the double)")
    asked, passed_on = parser.parse_known_args(session.posargs)
    install_for_tests(session)
    named = {"KVSYNC_CONFORMANCE_KUBECONFIG": str(Path(asked.kubeconfig).resolve())} if asked.kubeconfig else {}
    session.run("python", "-m", "pytest", "tests/conformance/test_pods_api.py", *passed_on, env=named)


@nox.session
def sanitize(session: nox.Session) -> None:
    """Run the C tests, the unit tier and the captures under AddressSanitizer and UBSan; threads under TSan."""
    need(session, CC, "make")
    asan = asan_library(session)
    if not session.posargs:
        session.run("make", "-C", "csrc", "test-asan", external=True)
        session.run("make", "-C", "csrc", "test-tsan", external=True)
    session.install(*PYPROJECT["project"]["dependencies"], *PYPROJECT["build-system"]["requires"], *group("test"))
    package = build_sanitized(session)
    # Python is not built with the sanitizer, so its library has to come first; and its own allocator would hide what
    # happens at the ends of a buffer. Python does not free all at exit: leaks are looked for by the C tests.
    environment = {
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1",
        "LD_PRELOAD": str(asan),
        "PYTHONMALLOC": "malloc",
        "PYTHONPATH": str(package),
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    is_tested = "import sys, kvsync._core._kvsync as core; assert core.__file__.startswith(sys.argv[1]), core.__file__"
    session.run("python", "-c", is_tested, str(package), env=environment)
    # --capture=sys: what a sanitizer says before it ends the program must not be lost with pytest's buffers.
    options = ["-n", "auto", "--capture=sys", "--timeout=600", "-p", "no:cacheprovider"]
    pytest(session, SANITIZED_TESTS, *options, env=environment)


def asan_library(session: nox.Session) -> Path:
    """The compiler's AddressSanitizer as a shared library, which can be loaded before Python."""
    said = session.run(CC, "-print-file-name=libasan.so", silent=True, external=True)
    library = Path(str(said).strip())
    version = str(session.run(CC, "--version", silent=True, external=True))
    if "clang" in version or not library.is_absolute() or not library.exists():
        session.error(
            f"{CC} has no libasan.so that can be loaded before Python. It comes with GCC: `apt-get install gcc` "
            "(libgcc-N-dev and libasan on Debian), `dnf install libasan libubsan libtsan` (Fedora); "
            "name another GCC in CC."
        )
    return library.resolve()


def build_sanitized(session: nox.Session) -> Path:
    """Build the package with sanitizers, in a folder of its own: the extension in `src` stays as it is."""
    base = Path(session.create_tmp()).resolve() / "build"
    shutil.rmtree(base, ignore_errors=True)
    package = base / "package"
    flags = " ".join(SANITIZERS)
    session.run(
        "python", "setup.py", "--quiet", "build", "--build-base", str(base), "--build-lib", str(package),
        "dist_info", "--output-dir", str(package),
        env={"CC": CC, "CFLAGS": flags, "LDFLAGS": flags},
    )  # fmt: skip
    return package


@nox.session
def differential(session: nox.Session) -> None:
    """Play random histories to the C index and the plain model; `-- --operations 1000000 --seed N` says how many."""
    install_for_tests(session)
    session.run("python", "tests/differential.py", *session.posargs)


# It needs no packages; and to make an environment anew would throw away what was learned, which lies in its folder.
@nox.session(venv_backend="none")
def fuzz(session: nox.Session) -> None:
    """Fuzz decoder and index with libFuzzer; `-- --seconds 600 operations` says how long each, and which."""
    parser = argparse.ArgumentParser(prog="nox -s fuzz --", description="What is not known here goes to libFuzzer.")
    parser.add_argument("--seconds", type=int, default=60, help="for each harness (default: %(default)s)")
    asked, passed_on = parser.parse_known_args(session.posargs)
    harnesses = [name for name in passed_on if name in HARNESSES] or HARNESSES
    options = [argument for argument in passed_on if argument not in HARNESSES]
    need(session, "make")
    session.run("make", "-C", "csrc", "fuzz", external=True)
    home = Path(session.create_tmp()).resolve()
    found = [path for harness in harnesses for path in fuzz_one(session, home / harness, asked.seconds, options)]
    if found:
        session.error(
            "found " + ", ".join(map(str, found)) + ": csrc/fuzz/README.md says how to see it fail, make it small, and "
            "keep it in csrc/fuzz/corpus"
        )


def fuzz_one(session: nox.Session, home: Path, seconds: int, options: list[str]) -> list[Path]:
    """Run one harness, from its corpus in git and what it learned before; the inputs that broke something."""
    learned, found = home / "corpus", home / "found"
    for folder in (learned, found):
        folder.mkdir(parents=True, exist_ok=True)
    before = set(found.iterdir())
    command = [
        f"csrc/build/fuzz/fuzz-{home.name}",
        str(learned),
        f"csrc/fuzz/corpus/{home.name}",
        f"-max_total_time={seconds}",
        f"-artifact_prefix={found}/",
        "-max_len=6000",
        "-timeout=20",
        "-print_final_stats=1",
        "-verbosity=0",
        *options,
    ]
    try:
        session.run(*command, external=True)
    except CommandFailed:
        new = sorted(set(found.iterdir()) - before)
        if not new:
            raise
        return new
    return []


VLLM_RELEASES = ["0.33.0", "0.26.0"]
VLLM_PINS = "tests/conformance/requirements-vllm.txt"
VLLM_BUILD = [
    "torch==2.13.0",
    "setuptools",
    "setuptools_scm",
    "setuptools_rust",
    "packaging",
    "wheel",
    "jinja2",
    "regex",
]


def vllm_environment(session: nox.Session, home: Path, release: str) -> Path:
    """The Python of an environment with vLLM and no GPU; one that was finished before is used again."""
    place = home / f"vllm-{release}"
    python, finished = place / "bin" / "python", place / "finished"
    if not finished.exists():
        shutil.rmtree(place, ignore_errors=True)
        session.run("python", "-m", "venv", str(place))
        pip = [str(python), "-m", "pip", "install", "--quiet"]
        session.run(*pip, *VLLM_BUILD, external=True)
        session.run(*pip, "--no-deps", "-r", VLLM_PINS, external=True)
        # From its source, which without a device is Python alone: a wheel would bring CUDA's libraries.
        source = ["--no-deps", "--no-build-isolation", "--no-binary", "vllm", f"vllm=={release}"]
        session.run(
            *(*pip, *source), external=True, env={"VLLM_VERSION_OVERRIDE": release, "VLLM_TARGET_DEVICE": "empty"}
        )
        finished.touch()
    return python


@nox.session(name="conformance-vllm")
def conformance_vllm(session: nox.Session) -> None:
    """Hold daemon and simulated engine against real vLLM without a GPU: minutes, and 1.8 GB for each release."""
    # Where a package index offers several builds of torch, have pip choose the CPU's.
    parser = argparse.ArgumentParser(prog="nox -s conformance-vllm --", description="The rest goes to pytest.")
    parser.add_argument("--release", action="append", help=f"of vLLM; may be repeated ({' '.join(VLLM_RELEASES)})")
    parser.add_argument("--seeds", default="1 2 3", help="of the loads (default: %(default)s)")
    parser.add_argument("--home", help="where environments are made and found again (default: in .nox)")
    asked, passed_on = parser.parse_known_args(session.posargs)
    install_for_tests(session)
    home = Path(asked.home or session.create_tmp()).resolve()
    pythons = {release: vllm_environment(session, home, release) for release in asked.release or VLLM_RELEASES}
    named = " ".join(f"{release}={python}" for release, python in pythons.items())
    env = {"KVSYNC_VLLM": named, "KVSYNC_VLLM_SEEDS": asked.seeds}
    session.run("pytest", "-s", "tests/conformance", *passed_on, env=env)


@nox.session
def build(session: nox.Session) -> None:
    """Build sdist and wheel, and install, import and run each in an environment that holds nothing else."""
    need(session, CC)
    session.install(*group("build"))
    made = Path(session.create_tmp()).resolve()
    shutil.rmtree(made, ignore_errors=True)
    # The wheel is built from the sdist, not from this tree: what the sdist forgets is then found missing.
    session.run("python", "-m", "build", "--outdir", str(made), *session.posargs)
    wheels, sdists = list(made.glob("*.whl")), list(made.glob("*.tar.gz"))
    if not wheels or not sdists:
        session.error(f"expected a wheel and an sdist, got {[path.name for path in made.iterdir()]}")
    if "-cp311-abi3-" not in wheels[0].name:
        session.error(f"{wheels[0].name}: one wheel shall serve every Python from 3.11 on; its tag must be cp311-abi3")
    for artifact in (sdists[0], wheels[0]):
        install_and_run(session, artifact, made / f"venv-{artifact.suffix[1:]}")


def install_and_run(session: nox.Session, artifact: Path, home: Path) -> None:
    """Install one artifact into a new environment, and use it from outside this tree with warnings as errors."""
    session.run("python", "-m", "venv", str(home))
    python = str(home / "bin" / "python")
    session.run(python, "-m", "pip", "install", "--quiet", str(artifact), external=True)
    with session.chdir(home):
        session.run(python, "-W", "error", "-c", "import kvsync; kvsync.Index().close()", external=True)
        session.run(python, "-W", "error", str(home / "bin" / "kvsync"), "version", external=True)
        session.run(python, "-m", "pip", "check", external=True)


@nox.session
def demo(session: nox.Session) -> None:
    """Install kvsync as a user would, and run its demo; `-- --seconds 20 --json` and the like pass through."""
    need(session, CC)
    session.install(".")
    session.run("kvsync", "demo", *session.posargs)


@nox.session
def changelog(session: nox.Session) -> None:
    """Show what the next release will say; `-- build --yes` writes it and removes the fragments."""
    session.install(*group("changelog"))
    session.run("towncrier", *(session.posargs or ["build", "--draft", "--version", "next"]))


# Few samples: enough to see a factor, not enough to see a tenth.
HASTE = ["-a", "rounds=1", "-a", "repeat=3", "-a", "sample_time=0.01", "-a", "warmup_time=0.02"]
RUNS = Path(".asv/runs")
FAILED = 2  # what asv ends with when a benchmark failed; the table then says which


def asv_config(results: str) -> str:
    """A copy of asv.conf.json whose results go elsewhere: only whole runs of commits belong into the history."""
    text = re.sub(r"^\s*//.*$", "", Path("asv.conf.json").read_text(), flags=re.MULTILINE)
    here = Path.cwd()
    moved = {"repo": str(here), "benchmark_dir": str(here / "benchmarks"), "env_dir": str(here / ".asv" / "env")}
    copy = here / ".asv" / f"{results}.conf.json"
    copy.parent.mkdir(exist_ok=True)
    copy.write_text(json.dumps({**json.loads(text), **moved, "results_dir": str(here / ".asv" / results)}))
    return str(copy)


def commit_of_tree(session: nox.Session) -> str:
    """The commit that the working tree stands on."""
    return str(session.run("git", "rev-parse", "HEAD", external=True, silent=True)).strip()


def runs_asked(session: nox.Session) -> tuple[int, list[str]]:
    """How many runs `--runs N` asks for, of which medians are made, and the other arguments."""
    parser = argparse.ArgumentParser(prog="nox -s bench --", add_help=False)
    parser.add_argument("--runs", type=int, default=1)
    asked, others = parser.parse_known_args(session.posargs)
    if asked.runs < 1:
        session.error(f"--runs is {asked.runs}; give 1 or more, 3 for medians")
    return asked.runs, others


def newest_results(folder: str) -> Path:
    """What asv wrote last."""
    files = [path for path in Path(folder).glob("*/*.json") if path.name != "machine.json"]
    return max(files, key=lambda path: path.stat().st_mtime)


@nox.session
def bench(session: nox.Session) -> None:
    """Benchmark HEAD into the history, this tree with `-- --quick` in minutes, medians with `-- --runs 3`; a table."""
    need(session, CC, "git")
    quick = "--quick" in session.posargs
    count, given = runs_asked(session)
    options = [argument for argument in given if argument not in {"--quick", "--cpu", "--json"}]
    session.install(*group("bench"))
    session.run("asv", "machine", "--yes", silent=True)
    env = {"KVSYNC_BENCH_SIZE": "quick" if quick else "full"}
    if quick and "--cpu" in session.posargs:
        env["KVSYNC_BENCH_CLOCK"] = "cpu"
    if quick:
        session.install(".")
        results = ".asv/quick"
        shutil.rmtree(results, ignore_errors=True)  # figures of another state of this tree would pass for this one's
        commit = ["--python=same", "--set-commit-hash", commit_of_tree(session)]
        run = ["--config", asv_config("quick"), "run", *commit, *HASTE]
    else:
        results = "benchmarks/results"
        run = ["run", "--environment", this_python(), "HEAD^!"]
    shutil.rmtree(RUNS, ignore_errors=True)
    RUNS.mkdir(parents=True)
    kept = []
    for nth in range(count):
        session.run("asv", *run, "--show-stderr", *options, env=env, success_codes=[0, FAILED])
        kept.append(shutil.copy(newest_results(results), RUNS / f"{nth + 1}.json"))
    if count > 1:
        session.run("python", "-m", "benchmarks.medians", results, *kept, env=env)
    # The table needs the sizes and nothing of kvsync, which a run of commits does not install here.
    as_json = ["--json"] * ("--json" in session.posargs)
    session.run("python", "-m", "benchmarks.table", results, *as_json, env=env)


@nox.session
def peers(session: nox.Session) -> None:
    """Hold kvsync beside NVIDIA Dynamo and a dict, same work, one run; `-- --quick`, `--json [FILE]`, `--rounds N`."""
    need(session, CC)
    session.install(".", *group("peers"))
    quick = "--quick" in session.posargs
    options = [argument for argument in session.posargs if argument != "--quick"]
    once = ["--rounds", "1"] if quick and "--rounds" not in options else []
    env = {"KVSYNC_BENCH_SIZE": "quick" if quick else "full"}
    session.run("python", "-m", "benchmarks.peers", *once, *options, env=env)


def this_python() -> str:
    """asv's words for an environment with the Python that runs nox."""
    return f"virtualenv:{sys.version_info.major}.{sys.version_info.minor}"


@nox.session(name="bench-compare")
def bench_compare(session: nox.Session) -> None:
    """Compare two commits, `-- BASE HEAD [-b PATTERN]`: asv builds both, runs them in turn, and prints the ratios."""
    need(session, CC, "git")
    if len(session.posargs) < 2:
        session.error("which two? `nox -s bench-compare -- BASE HEAD`, and `-b bench_match` for a part of the suite")
    session.install(*group("bench"))
    session.run("asv", "machine", "--yes", silent=True)
    command = ["--config", asv_config("compare"), "continuous", "--interleave-rounds", "--environment", this_python()]
    sizes = {"KVSYNC_BENCH_SIZE": "quick"}
    try:
        session.run("asv", *command, "--factor", "1.1", "--show-stderr", *session.posargs, env=sizes)
    finally:
        # `continuous` is silent on what it takes for unchanged.
        session.run("asv", *command[:2], "compare", *session.posargs[:2])


@nox.session(name="bench-publish")
def bench_publish(session: nox.Session) -> None:
    """Make pages of the benchmarks' history, in .asv/html; `asv preview` serves them."""
    if not list(Path("benchmarks/results").glob("*/*.json")):
        session.error("there is no history yet: `nox -s bench` on a quiet machine makes its next page")
    session.install(*group("bench"))
    session.run("asv", "publish", *session.posargs)
