"""Tests of scripts/setup.py: a small stand-in for the PyTorch wheel, and a folder as pip's index."""
import base64
import contextlib
import errno
import hashlib
import importlib.util
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
import zipfile
from pathlib import Path
from unittest import mock

SCRIPT = Path(__file__).resolve().parent.parent / "setup.py"
spec = importlib.util.spec_from_file_location("neti_setup", SCRIPT)
setup = importlib.util.module_from_spec(spec)
spec.loader.exec_module(setup)

# The tests put a stand-in into its place.
MISSING_LIBRARIES = setup.missing_libraries
LIBTORCH_CPU = "lib/libtorch_cpu." + setup.LIBRARY
HEADER = "include/torch/headeronly/version.h"


def header(version):
    names = ("MAJOR", "MINOR", "PATCH")
    return "".join("#define TORCH_VERSION_%s %s\n" % p for p in zip(names, version.split(".")))


def torch_files(version="2.13.0"):
    return {"torch/" + HEADER: header(version), "torch/" + LIBTORCH_CPU: "code" * 5000,
            "torch/include/ATen/ATen.h": "//", "torch/nn/linear.py": "# not for us"}


def write_wheel(folder, files, name="torch", version="2.13.0+cpu", lie=(), metadata="", platform=None):
    """A wheel with a RECORD; the checksums of the files in `lie` are wrong."""
    path = folder / ("%s-%s-cp311-cp311-%s.whl" % (name, version, platform or setup.wheel_platforms()[0]))
    info = "%s-%s.dist-info/" % (name, version)
    files = dict(files)
    files[info + "licenses/LICENSE"] = "terms"
    files[info + "METADATA"] = "Metadata-Version: 2.1\nName: %s\nVersion: %s\n%s" % (name, version, metadata)
    files[info + "WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: cp311-cp311-any\n"
    record = ""
    for n, text in files.items():
        digest = hashlib.sha256(text.encode() + (b"!" if n in lie else b"")).digest()
        record += "%s,sha256=%s,%d\n" % (n, base64.urlsafe_b64encode(digest).rstrip(b"=").decode(), len(text))
    files[info + "RECORD"] = record + info + "RECORD,,\n"
    with zipfile.ZipFile(path, "w") as z:
        for n, text in files.items():
            z.writestr(n, text)
    return path


class SetupTests(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.root = Path(temporary.name) / "package"
        self.index = Path(temporary.name) / "index"
        self.root.mkdir()
        self.index.mkdir()
        clean = {k: v for k, v in os.environ.items() if not k.startswith("PIP_") and k != "LIBTORCH"}
        clean.update(PIP_CONFIG_FILE=os.devnull, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(self.index))
        for patch in (mock.patch.dict(os.environ, clean, clear=True),
                      mock.patch.object(setup, "missing_libraries", return_value=[]),
                      mock.patch.object(setup, "has_nvidia_card", return_value=False),
                      # Nothing listens there: a test never leaves the machine.
                      mock.patch.object(setup, "CPU_INDEX", "http://127.0.0.1:9/whl/cpu")):
            patch.start()
            self.addCleanup(patch.stop)

    has_nvidia_card = staticmethod(setup.has_nvidia_card)

    def run_setup(self, *arguments):
        """(exit code, the lines it said)"""
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            code = setup.main(list(arguments), root=self.root)
        return code, said.getvalue().splitlines()

    def fails(self, word, *arguments):
        """It fails with `word` in its last line, and leaves no .libtorch."""
        code, lines = self.run_setup(*arguments)
        self.assertEqual(code, 1, lines)
        self.assertIn(word, lines[-1])
        self.assertTrue(all(l.startswith("setup: ") for l in lines), lines)
        self.assertFalse((self.root / ".libtorch").exists())
        return lines[-1]

    def test_fills_libtorch_and_a_second_run_does_nothing(self):
        write_wheel(self.index, torch_files())
        code, lines = self.run_setup("--quiet")
        self.assertEqual(code, 0, lines)
        target = self.root / ".libtorch"
        self.assertEqual((target / "version").read_text(), "2.13.0+cpu\n")
        self.assertTrue((target / LIBTORCH_CPU).is_file())
        self.assertEqual(sorted(p.name for p in target.iterdir()), ["include", "lib", "licenses", "version"])
        self.assertFalse((self.root / ".libtorch.partial").exists())
        with mock.patch.object(setup, "find_pip", side_effect=AssertionError):
            begun = time.time()
            self.assertEqual(self.run_setup("--quiet"), (0, []))
            self.assertLess(time.time() - begun, 1)
            code, lines = self.run_setup()
            self.assertEqual((code, len(lines)), (0, 1))
            self.assertIn("nothing to do", lines[0])
            self.assertEqual(self.run_setup("--check")[0], 0)

    def test_check_changes_nothing(self):
        write_wheel(self.index, torch_files())
        self.fails("not set up", "--check")
        self.assertEqual(list(self.root.iterdir()), [])

    def test_force_fetches_again(self):
        write_wheel(self.index, torch_files())
        self.run_setup()
        (self.root / ".libtorch" / LIBTORCH_CPU).write_text("old")
        self.assertEqual(self.run_setup("--force")[0], 0)
        self.assertTrue((self.root / ".libtorch" / LIBTORCH_CPU).read_text().startswith("code"))

    def test_a_wrong_checksum_is_told_and_the_wheel_removed(self):
        write_wheel(self.index, torch_files(), lie=["torch/" + LIBTORCH_CPU])
        self.assertIn(LIBTORCH_CPU, self.fails("wrong checksum"))
        self.assertEqual(list(self.root.glob(".libtorch.partial/wheels/*")), [])

    def test_a_damaged_fetch_keeps_the_libtorch_that_was_there(self):
        write_wheel(self.index, torch_files())
        self.run_setup()
        write_wheel(self.index, torch_files(), lie=["torch/" + LIBTORCH_CPU])
        self.assertEqual(self.run_setup("--force")[0], 1)
        self.assertEqual(self.run_setup("--check")[0], 0)

    def test_a_half_finished_download_is_fetched_again(self):
        wheel = write_wheel(self.index, torch_files())
        cache = self.root / ".libtorch.partial/wheels"
        cache.mkdir(parents=True)
        (cache / wheel.name).write_bytes(wheel.read_bytes()[:9000])
        code, lines = self.run_setup()
        self.assertEqual(code, 0, lines)
        self.assertIn("half", lines[0])

    def test_an_index_with_half_a_wheel_is_one_clear_line(self):
        wheel = write_wheel(self.index, torch_files())
        wheel.write_bytes(wheel.read_bytes()[:9000])
        self.fails("cannot fetch libtorch")

    def test_a_file_with_an_unsafe_name_is_refused(self):
        write_wheel(self.index, {**torch_files(), "torch/lib/../../../evil": "x"})
        self.fails("unsafe name")
        self.assertFalse((self.root / "evil").exists())

    def test_an_index_without_it_is_told_with_what_to_do(self):
        self.assertIn("LIBTORCH", self.fails("does not have it"))

    def test_an_unreachable_index_is_told(self):
        os.environ.update(PIP_NO_INDEX="0", PIP_FIND_LINKS="", PIP_INDEX_URL="http://127.0.0.1:9/simple")
        self.fails("not reachable")

    def test_no_pip_is_told(self):
        write_wheel(self.index, torch_files())
        with mock.patch.object(setup.subprocess, "run", side_effect=FileNotFoundError):
            self.fails("no pip")

    def test_unsupported_platforms_are_told(self):
        for system, machine, word in (("Windows", "AMD64", "Windows"), ("Darwin", "x86_64", "x86_64"),
                                      ("Linux", "riscv64", "riscv64")):
            with mock.patch.multiple(setup.platform, system=lambda: system, machine=lambda: machine):
                self.fails(word)
        with mock.patch.multiple(setup.platform, system=lambda: "Linux", machine=lambda: "x86_64",
                                 libc_ver=lambda: ("", "")):
            self.fails("glibc")

    def test_a_full_disk_is_told(self):
        write_wheel(self.index, torch_files())
        usage = mock.Mock(free=1000)
        with mock.patch.object(setup.shutil, "disk_usage", return_value=usage):
            self.fails("no space left")
        with mock.patch.object(setup.os, "rename", side_effect=OSError(errno.ENOSPC, "No space left on device")):
            self.fails("no space left")

    def test_a_wheel_of_another_version_inside_is_refused(self):
        write_wheel(self.index, torch_files("2.12.1"))
        self.fails("2.12.1")

    def test_the_newest_tested_version_is_taken_of_which_there_is_a_build_for_the_cpu(self):
        # One that is newer but not tested, and a newer one for cards only.
        for version in ("2.11.0+cpu", "2.13.0+cpu", "2.99.0+cpu", "2.15.0"):
            write_wheel(self.index, torch_files(version.split("+")[0]), version=version)
        code, lines = self.run_setup()
        self.assertEqual(code, 0, lines)
        self.assertEqual((self.root / ".libtorch/version").read_text(), "2.13.0+cpu\n")
        write_wheel(self.index, torch_files("2.15.0"), version="2.15.0+cpu")
        self.assertEqual(self.run_setup("--force")[0], 0)
        self.assertEqual((self.root / ".libtorch/version").read_text(), "2.15.0+cpu\n")

    def test_the_oldest_version_is_the_first_of_those_tested(self):
        self.assertEqual(setup.OLDEST, tuple(map(int, setup.TESTED[0].split(".")[:2])))

    def for_cards(self, version="2.15.0"):
        """The build for NVIDIA cards in the index."""
        write_wheel(self.index, torch_files("2.15.0"), version=version,
                    metadata="Requires-Dist: sympy\nRequires-Dist: nvidia-cudart==13.0; python_version > '3'\n")
        write_wheel(self.index, {"nvidia/cudart/lib/libcudart.so.13": "x", "nvidia/cudart/include/a.h": "x"},
                    name="nvidia_cudart", version="13.0", platform="manylinux_2_25_x86_64")
        platform = mock.patch.multiple(setup.sys, platform="linux")
        platform.start()
        self.addCleanup(platform.stop)

    def expect_cuda(self, *arguments, version="2.15.0"):
        code, lines = self.run_setup(*arguments)
        self.assertEqual(code, 0, lines)
        self.assertTrue((self.root / ".libtorch/lib/libcudart.so.13").is_file())
        self.assertFalse((self.root / ".libtorch/lib/a.h").exists())
        self.assertEqual((self.root / ".libtorch/version").read_text(), version + "\n")
        return lines

    def test_without_a_card_the_build_for_cards_is_not_fetched(self):
        self.for_cards()
        self.assertIn("--cuda", self.fails("does not have it"))
        self.assertEqual(list(self.root.glob(".libtorch.partial/**/*.whl")), [])

    def test_on_arm_neither(self):
        self.for_cards()
        with mock.patch.object(setup.platform, "machine", return_value="aarch64"):
            for wheel in list(self.index.glob("*.whl")):
                wheel.rename(self.index / wheel.name.replace("x86_64", "aarch64"))
            self.fails("does not have it")
            write_wheel(self.index, torch_files())
            self.assertEqual(self.run_setup()[0], 0)
        self.assertEqual((self.root / ".libtorch/version").read_text(), "2.13.0+cpu\n")

    def test_on_a_mac_the_default_build_is_taken(self):
        with mock.patch.multiple(setup.sys, platform="darwin"), \
                mock.patch.multiple(setup.platform, system=lambda: "Darwin", machine=lambda: "arm64"):
            for arguments in ((), ("--force", "--cuda")):
                write_wheel(self.index, torch_files(), version="2.13.0")
                self.assertEqual(self.run_setup(*arguments)[0], 0)
                self.assertEqual((self.root / ".libtorch/version").read_text(), "2.13.0\n")

    def test_a_card_brings_the_build_for_cards_where_there_is_no_other(self):
        self.for_cards()
        setup.has_nvidia_card.return_value = True
        self.expect_cuda()
        write_wheel(self.index, torch_files())
        self.assertEqual(self.run_setup("--force")[0], 0)
        self.assertEqual((self.root / ".libtorch/version").read_text(), "2.13.0+cpu\n")

    def test_the_build_for_cards_is_fetched_when_it_is_asked_for(self):
        self.for_cards()
        write_wheel(self.index, torch_files())
        self.assertEqual(self.run_setup()[0], 0)
        self.expect_cuda("--cuda")
        # And it stays.
        self.assertEqual(self.run_setup("--quiet"), (0, []))

    def test_a_build_for_cards_that_tells_its_cuda_version_is_taken(self):
        # pip takes it for ==2.15.0, and prefers it to one without a local version.
        self.for_cards("2.15.0+cu130")
        self.expect_cuda("--cuda", version="2.15.0+cu130")

    def test_a_kept_build_for_cards_that_tells_its_cuda_version_is_not_fetched_again(self):
        self.for_cards("2.15.0+cu130")
        os.environ["PIP_FIND_LINKS"] = str(self.root)
        cache = self.root / ".libtorch.partial/wheels"
        cache.mkdir(parents=True)
        wheel, = self.index.glob("torch-*.whl")
        wheel.rename(cache / wheel.name)
        # The CUDA libraries are out of reach, but torch itself is asked for no more.
        code, lines = self.run_setup("--cuda")
        self.assertEqual(code, 1)
        self.assertIn("unpacking", lines[0])
        self.assertIn("cannot fetch the CUDA libraries", lines[-1])
        os.environ["PIP_FIND_LINKS"] = str(self.index)
        self.expect_cuda("--cuda", version="2.15.0+cu130")

    def test_a_half_kept_build_for_cards_is_fetched_again(self):
        self.for_cards("2.15.0+cu130")
        cache = self.root / ".libtorch.partial/wheels"
        cache.mkdir(parents=True)
        wheel, = self.index.glob("torch-*.whl")
        (cache / wheel.name).write_bytes(wheel.read_bytes()[:9000])
        self.assertIn("half", self.expect_cuda("--cuda", version="2.15.0+cu130")[0])

    def test_the_build_for_the_cpu_is_not_taken_for_the_one_for_cards(self):
        self.for_cards()
        write_wheel(self.index, torch_files("2.15.0"), version="2.15.0+cpu")
        kept = self.root / ".libtorch.partial/wheels"
        kept.mkdir(parents=True)
        write_wheel(kept, torch_files("2.15.0"), version="2.15.0+cpu")
        self.expect_cuda("--cuda")
        for wheel in self.index.glob("torch-2.15.0-*.whl"):
            wheel.unlink()
        code, lines = self.run_setup("--force", "--cuda")
        self.assertEqual(code, 1, lines)
        self.assertIn("build for NVIDIA cards: does not have it", lines[-1])
        self.assertEqual((self.root / ".libtorch/version").read_text(), "2.15.0\n")

    def test_a_wheel_that_was_not_asked_for_is_told(self):
        platform = mock.patch.multiple(setup.sys, platform="linux")
        for version, arguments in (("2.15.0+cpu", ("--cuda",)), ("2.15.0+cu130", ()), ("2.15.0", ()),
                                   ("2.15.01", ("--cuda",)), ("2.15.0.post1", ("--cuda",))):
            shutil.rmtree(self.root / ".libtorch.partial", ignore_errors=True)

            def download(pip, requirements, folder, *options):
                folder.mkdir(parents=True, exist_ok=True)
                write_wheel(folder, torch_files("2.15.0"), version=version)
            with platform, mock.patch.object(setup, "pip_download", side_effect=download) as run:
                self.assertIn("not what is needed; set LIBTORCH", self.fails("gave torch-%s-cp311" % version, *arguments))
            # Not some GB more of the next version.
            self.assertEqual(run.call_count, 1)
        with platform, mock.patch.object(setup, "pip_download"):
            shutil.rmtree(self.root / ".libtorch.partial", ignore_errors=True)
            self.fails("gave nothing", "--cuda")

    def test_on_a_mac_a_build_with_a_local_version_is_taken(self):
        with mock.patch.multiple(setup.sys, platform="darwin"), \
                mock.patch.multiple(setup.platform, system=lambda: "Darwin", machine=lambda: "arm64"):
            write_wheel(self.index, torch_files(), version="2.13.0+local")
            self.assertEqual(self.run_setup()[0], 0)
        self.assertEqual((self.root / ".libtorch/version").read_text(), "2.13.0+local\n")

    def test_a_card_is_known_by_its_driver_or_its_tool(self):
        found = mock.patch.object(setup.shutil, "which", side_effect=lambda n: n if n == "nvidia-smi" else None)
        none = mock.patch.object(setup.shutil, "which", return_value=None)
        known = self.has_nvidia_card
        with mock.patch.object(setup.Path, "glob", return_value=iter([])):
            with found:
                self.assertTrue(known())
            with none:
                self.assertFalse(known())
        with mock.patch.object(setup.Path, "glob", return_value=iter([Path("/dev/nvidia0")])), none:
            self.assertTrue(known())

    def test_a_libtorch_of_any_accepted_version_stays(self):
        for version in ("2.11.0", "2.12.1", "2.99.3", "3.0.0"):
            self.assertEqual(self.run_setup("--from", str(self.unpacked(self.root.parent / version, version)))[0], 0)
            self.assertEqual(self.run_setup("--quiet"), (0, []))
            self.assertEqual(self.run_setup("--check")[0], 0)
            self.assertEqual((self.root / ".libtorch/version").read_text(), version + "\n")

    def unpacked(self, folder, version="2.13.1"):
        for name, text in torch_files(version).items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return folder / "torch"

    def test_from_links_an_installed_torch(self):
        site = self.root.parent / "venv/lib/python3.12/site-packages"
        torch = self.unpacked(site, "2.13.0")
        for path in (torch, site, self.root.parent / "venv"):
            code, lines = self.run_setup("--from", str(path))
            self.assertEqual(code, 0, lines)
            self.assertEqual((self.root / ".libtorch/lib").resolve(), (torch / "lib").resolve())
        self.assertEqual(self.run_setup("--quiet"), (0, []))

    def test_from_refuses_other_versions_and_folders(self):
        self.fails("2.10.1, and 2.11 or newer", "--from", str(self.unpacked(self.root.parent / "old", "2.10.1")))
        self.fails("2.9.0", "--from", str(self.unpacked(self.root.parent / "older", "2.9.0")))
        self.fails("no such folder", "--from", str(self.root / "nowhere"))
        self.fails("include and lib", "--from", str(self.index))

    def test_libtorch_in_the_environment_is_only_checked(self):
        os.environ["LIBTORCH"] = str(self.unpacked(self.root.parent / "given"))
        self.assertEqual(self.run_setup("--quiet"), (0, []))
        self.assertEqual(list(self.root.iterdir()), [])
        (Path(os.environ["LIBTORCH"]) / LIBTORCH_CPU).unlink()
        self.fails("libtorch_cpu")
        os.environ["LIBTORCH"] = "torch"
        self.fails("absolute")
        os.environ["LIBTORCH"] = str(self.unpacked(self.root.parent / "old", "2.9.0"))
        self.fails("2.9.0")

    def test_missing_libraries_are_installed_or_named(self):
        os.environ["LIBTORCH"] = str(self.unpacked(self.root.parent / "given"))
        setup.missing_libraries.return_value = ["libwebp", "pangocairo"]
        self.fails("libwebp, pangocairo", "--check")
        linux = mock.patch.object(setup.platform, "system", return_value="Linux")
        none = mock.patch.object(setup.shutil, "which", return_value=None)
        with linux, none:
            self.fails("libwebp, pangocairo")
        def only(name):
            return mock.patch.object(setup.shutil, "which", side_effect=lambda n: n if n == name else None)
        user = mock.patch.object(setup.os, "geteuid", return_value=1000)
        with linux, only("apt-get"), user:
            self.fails("as root, run: apt-get install -y -q --no-install-recommends pkg-config libwebp-dev "
                       "libpango1.0-dev fonts-dejavu-core")
        refused = mock.patch.object(setup.subprocess, "run", return_value=mock.Mock(returncode=100))
        root = mock.patch.object(setup.os, "geteuid", return_value=0)
        with linux, only("apt-get"), root, refused as run:
            self.fails("could not install libwebp, pangocairo")
            self.assertEqual([c.args[0][1] for c in run.call_args_list], ["install", "update", "install"])
        with mock.patch.object(setup.platform, "system", return_value="Darwin"), only("brew"), refused as run:
            self.fails("run this and look at what it says: brew install pkgconf webp pango")

    def test_what_is_missing_is_known_from_pkg_config(self):
        def answers(known):
            def run(command, **_):
                return mock.Mock(returncode=0 if set(command[2].split()) <= set(known) else 1)
            return mock.patch.object(setup.subprocess, "run", side_effect=run)
        with mock.patch.object(setup.shutil, "which", return_value="pkg-config"):
            with answers(setup.LIBRARIES):
                self.assertEqual(MISSING_LIBRARIES(), [])
            with answers([n for n in setup.LIBRARIES if n != "pangocairo"]):
                self.assertEqual(MISSING_LIBRARIES(), ["pangocairo"])
        with mock.patch.object(setup.shutil, "which", return_value=None):
            self.assertEqual(MISSING_LIBRARIES(), list(setup.LIBRARIES))

    def test_the_script_itself_says_one_line_and_exits_with_1(self):
        done = subprocess.run([sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True,
                              env=dict(os.environ, LIBTORCH=str(self.index)))
        self.assertEqual(done.returncode, 1)
        self.assertEqual(len(done.stderr.splitlines()), 1)


if __name__ == "__main__":
    unittest.main()
