"""What libraries would do by themselves and do not: report, write into the home folder, bring what is not
needed.
"""

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from conftest import PORTRAITS, ROOT

from agedit import AgeEditError, compat

REPORTING = (
    "CI",
    "ANALYTICS",
    "TELEMETRY",
    "DO_NOT_TRACK",
    "GITHUB",
    "BUILD",
    "TF_",
    "HF_",
    "MPL",
    "XDG",
    "PYTEST",
)


def environment(home: Path, **more: str) -> dict[str, str]:
    """This process's environment without anything that could silence a library, its home and temporary folder
    below `home`.
    """
    kept = {k: v for k, v in os.environ.items() if not any(word in k.upper() for word in REPORTING)}
    (home / "home").mkdir(parents=True, exist_ok=True)
    (home / "tmp").mkdir(exist_ok=True)
    return kept | {"HOME": str(home / "home"), "TMPDIR": str(home / "tmp"), "PYTHONPATH": str(ROOT)} | more


def python(code: str, home: Path, **more: str) -> subprocess.CompletedProcess:
    """Run code in a process of its own, as a stranger's machine would."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment(home, **more),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def left(home: Path) -> list[str]:
    """Every file below `home`."""
    return sorted(str(path.relative_to(home)) for path in home.rglob("*") if not path.is_dir())


SESSION = (
    "import onnxruntime; onnxruntime.InferenceSession('weights/age_gender_faceapi.onnx', "
    "providers=['CPUExecutionProvider'])"
)
ENTRIES = (
    "import agedit",
    "import agedit.runtime",
    "from agedit.submodel import candidates",
    "import agedit.training.second_judge",
    "import agedit.__main__",
    "import app",
    "import sys; sys.path.insert(0, 'tests'); import conftest",
)


def test_onnxruntime_by_itself_does_leave_something(tmp_path):
    """The recorder of the next tests sees what they are there for."""
    result = python(SESSION, tmp_path)
    assert result.returncode == 0, result.stderr
    assert any("onnxruntime" in name for name in left(tmp_path)), left(tmp_path)


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_entry_silences_onnxruntime(tmp_path, entry):
    result = python(f"{entry}; {SESSION}", tmp_path)
    assert result.returncode == 0, result.stderr
    assert left(tmp_path) == []


def test_a_value_that_would_switch_it_on_is_overruled(tmp_path):
    assert python(f"import agedit; {SESSION}", tmp_path, ORT_DISABLE_TELEMETRY="0").returncode == 0
    assert left(tmp_path) == []


def test_a_child_process_is_silent_too(tmp_path):
    code = f"import agedit, subprocess, sys; subprocess.run([sys.executable, '-c', {SESSION!r}], check=True)"
    assert python(code, tmp_path).returncode == 0
    assert left(tmp_path) == []


def test_a_host_that_imported_onnxruntime_first_is_told(monkeypatch):
    stopped = []
    monkeypatch.setitem(
        sys.modules, "onnxruntime", SimpleNamespace(disable_telemetry_events=lambda: stopped.append(1))
    )
    monkeypatch.delenv(compat.ORT_SWITCH)
    with pytest.warns(RuntimeWarning, match="imported before agedit"):
        compat.silence()
    assert stopped == [1] and os.environ[compat.ORT_SWITCH] == "1"
    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace())
    monkeypatch.delenv(compat.ORT_SWITCH)
    with pytest.raises(compat.UnknownLibraryError, match="disable_telemetry_events"):
        compat.silence()


def test_the_real_onnxruntime_can_be_stopped(tmp_path):
    result = python("import onnxruntime, agedit", tmp_path)
    assert result.returncode == 0 and "imported before agedit" in result.stderr


def test_an_edit_from_the_shell_leaves_its_picture_and_nothing_else(tmp_path):
    """Whatever library: HOME, temporary folder and the user's cache stay empty. A proxy, which nobody asks,
    changes nothing.
    """
    out = tmp_path / "out" / "older.png"
    out.parent.mkdir()
    home = tmp_path / "user"
    home.mkdir()
    proxy = "http://127.0.0.1:9"
    result = subprocess.run(
        [sys.executable, "-m", "agedit", "edit", str(PORTRAITS[0]), "-o", str(out), "--years", "20"],
        cwd=ROOT,
        env=environment(home, http_proxy=proxy, https_proxy=proxy, HTTP_PROXY=proxy, ALL_PROXY=proxy),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert out.exists()
    assert left(home) == []


def test_a_plot_leaves_no_cache_of_fonts(tmp_path):
    code = (
        "import os; from agedit.compat import import_matplotlib; import_matplotlib(); "
        "from matplotlib.figure import Figure; import io; f = Figure(); f.add_subplot().set_title('x'); "
        "f.savefig(io.BytesIO(), format='png'); assert 'MPLCONFIGDIR' not in os.environ"
    )
    result = python(code, tmp_path)
    assert result.returncode == 0, result.stderr
    assert left(tmp_path) == []


def test_mediapipe_comes_without_matplotlib_and_the_sound_server(tmp_path):
    code = (
        "import sys; from agedit.compat import mediapipe_solutions as get; s = get(); s.face_mesh.FaceMesh; "
        "assert not {'matplotlib', 'sounddevice'} & sys.modules.keys(); "
        "assert get() is s; "
        "assert s.drawing_utils.draw_landmarks and 'matplotlib' in sys.modules; "
        "from mediapipe.tasks.python.audio.core import audio_record\n"
        "try:\n    audio_record.sd.InputStream\n"
        "except (OSError, ImportError):\n    pass  # no PortAudio here; the real module was asked\n"
        "else:\n    assert 'sounddevice' in sys.modules\n"
    )
    result = python(code, tmp_path)
    assert result.returncode == 0, result.stderr


def test_openvino_is_silent_and_a_hosts_telemetry_untouched(tmp_path):
    code = (
        "import sys, types; host = types.ModuleType('openvino_telemetry'); sys.modules['openvino_telemetry'] = host; "  # noqa: E501
        "from agedit.compat import import_openvino; ov = import_openvino(); "
        "assert sys.modules['openvino_telemetry'] is host; "
        "import openvino.tools.ovc.telemetry_utils as u; assert u.tm.__name__.endswith('telemetry_stub'); "
        "assert import_openvino() is ov"
    )
    result = python(code, tmp_path)
    assert result.returncode == 0, result.stderr
    assert left(tmp_path) == []


def test_an_openvino_that_reports_elsewhere_is_refused(monkeypatch):
    """As an upgrade might: its converter binds something else than the stub."""
    reporter = SimpleNamespace(tm=ModuleType("openvino_insights"))
    monkeypatch.delitem(sys.modules, "openvino", raising=False)
    monkeypatch.setitem(sys.modules, "openvino.tools.ovc.new", reporter)
    monkeypatch.setattr(compat.importlib, "import_module", ModuleType)
    with pytest.raises(compat.UnknownLibraryError, match="openvino_insights"):
        compat.import_openvino()


def test_a_session_without_model_bytes_is_refused():
    with pytest.raises(AgeEditError, match="_model_bytes"):
        compat.forget_model_bytes(SimpleNamespace())
    session = SimpleNamespace(_model_bytes=b"1")
    compat.forget_model_bytes(session)
    assert session._model_bytes is None


def test_another_mediapipe_is_refused(monkeypatch, tmp_path):
    """One whose drawing modules have moved: nothing would keep matplotlib out."""
    (tmp_path / "mediapipe").mkdir()
    (tmp_path / "mediapipe" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [k for k in sys.modules if k.split(".")[0] == "mediapipe"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(compat.UnknownLibraryError, match="drawing_utils"):
        compat.mediapipe_solutions()


def test_a_file_that_mediapipe_lacks_is_named():
    assert compat.mediapipe_file("modules/selfie_segmentation/selfie_segmentation.tflite").is_file()
    with pytest.raises(compat.UnknownLibraryError, match="no_such_file"):
        compat.mediapipe_file("no_such_file")
