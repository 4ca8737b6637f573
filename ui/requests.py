"""What is in the JSON of a request, checked against the components that it is for before Gradio sees
any of it.
"""

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import orjson
from gradio import blocks, components
from pydantic import BaseModel, ConfigDict, Field, StrictInt, StringConstraints, ValidationError

from ui.compat import FETCHES_NOTHING
from ui.security.refusal import RefusalError
from ui.security.routes import SESSION
from ui.uploads import locate

DEPTH = 16
"""Lists in lists."""

TEXT = 2000
"""Characters of any text."""

LARGEST = 1e9
"""Any number."""

IMAGE_GONE = "That picture was not uploaded here; upload it and try again."

Session = Annotated[str, StringConstraints(pattern=rf"^{SESSION}$")]
Index = Annotated[StrictInt, Field(ge=0, le=100_000)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore")


class Join(_Body):
    """POST /queue/join, from the page."""

    data: list[Any] = Field(max_length=100)
    session_hash: Session
    fn_index: Index
    trigger_id: Index | None = None
    event_data: Any = None


class Call(_Body):
    """POST /call/{name}, from a program."""

    data: list[Any] = Field(max_length=100)
    session_hash: Session | None = None


class Cancel(_Body):
    """POST /cancel."""

    session_hash: Session
    fn_index: Index
    event_id: Session


class Reset(_Body):
    """POST /reset, which has no effect."""

    event_id: Session


class FileReference(_Body):
    """A file as the page and gradio_client name it. `url` is ignored, but it may not name another place."""

    path: Annotated[str, StringConstraints(min_length=1, max_length=4096)]
    url: Annotated[str, StringConstraints(max_length=8192)] | None = None
    orig_name: str | None = None
    mime_type: str | None = None
    size: int | None = None


class Checker:
    """Check: (path, JSON) to the JSON that Gradio gets.

    page: the built Blocks. roots: folders that are ours.
    """

    def __init__(self, page: blocks.Blocks, roots: Callable[[], Iterable[Path]]) -> None:
        self.page = page
        self.roots = roots

    def __call__(self, path: str, body: bytes) -> bytes:
        content = parse(body)
        if path == "/gradio_api/queue/join":
            return orjson.dumps(self.join(_valid(Join, content)))
        if path == "/gradio_api/cancel":
            return orjson.dumps(_valid(Cancel, content).model_dump())
        if path == "/gradio_api/reset":
            return orjson.dumps(_valid(Reset, content).model_dump())
        return orjson.dumps(self.call(path.rsplit("/", 1)[1], _valid(Call, content)))

    def join(self, body: Join) -> dict[str, Any]:
        function = self.page.fns.get(body.fn_index)
        if function is None:
            raise RefusalError(404, "The page has no such function; reload it.")
        inputs = function.inputs
        if function.cancels:  # Gradio itself fills these in
            return body.model_dump() | {"data": [], "event_data": None}
        values = self.values(inputs, body.data, "This function of the page")
        return body.model_dump() | {"data": values, "event_data": self.event(body.event_data)}

    def call(self, name: str, body: Call) -> dict[str, Any]:
        for function in self.page.fns.values():
            if function.api_name == name and function.api_visibility == "public":
                inputs = [block for block in function.inputs if not block.skip_api]
                values = self.values(inputs, body.data, f"The endpoint /{name}")
                return {"data": values, "session_hash": body.session_hash}
        raise RefusalError(404, "There is no such endpoint; see /gradio_api/info for those there are.")

    def values(self, inputs: Iterable[Any], data: list[Any], where: str) -> list[Any]:
        inputs = list(inputs)
        if len(inputs) != len(data):
            labels = ", ".join(label_of(block, k) for k, block in enumerate(inputs))
            raise RefusalError(422, f"{where} takes {len(inputs)} values ({labels}), not {len(data)}.")
        return [self.value(block, label_of(block, k), data[k]) for k, block in enumerate(inputs)]

    def value(self, block: Any, label: str, value: Any) -> Any:
        """A component's value, as it may be."""
        if isinstance(block, components.State):
            return None  # the server has its own
        if value is None:
            return None
        if isinstance(block, (components.Number, components.Slider)):
            return number(label, value)
        if isinstance(block, components.Checkbox):
            if not isinstance(value, bool):
                raise RefusalError(422, f"The value of {label} must be true or false.")
            return value
        if isinstance(block, components.Textbox):
            return text(label, str(value) if _is_number(value) else value)
        if isinstance(block, (components.Radio, components.Dropdown)):
            return value if _is_number(value) else text(label, value)
        if isinstance(block, (components.Image, components.File, components.UploadButton)):
            return self.file(label, value)
        return self.anything(value)

    def file(self, label: str, value: Any) -> Any:
        if isinstance(value, list) and len(value) == 1:
            return [self.file(label, value[0])]
        if isinstance(value, str):
            _refuse_address(value)
        if not isinstance(value, dict):
            raise RefusalError(422, f"The value of {label} must be a file that was uploaded here.")
        return self.reference(value)

    def reference(self, value: dict[str, Any]) -> dict[str, Any]:
        """A reference to a file that is here, and nothing else of what the client said."""
        for text_ in (value.get("path"), value.get("url")):
            if isinstance(text_, str):
                _refuse_address(text_, own=text_ is value.get("url"))
        try:
            named = FileReference.model_validate(value)
        except ValidationError:
            raise RefusalError(422, IMAGE_GONE) from None
        path = locate(named.path, self.roots())
        if path is None:
            raise RefusalError(404, IMAGE_GONE)
        return {
            "path": str(path),
            "orig_name": clean_name(named.orig_name),
            "meta": {"_type": "gradio.FileData"},
        }

    def event(self, value: Any) -> Any:
        """What the page tells of a click: which of several, and where."""
        if not isinstance(value, dict):  # what a slider was let go at, for one
            return self.anything(value)
        index = value.get("index")
        if isinstance(index, list):
            sensible = len(index) == 2 and all(_is_number(k) for k in index)
        elif isinstance(index, (int, float)):
            sensible = _is_number(index) and index >= 0
        else:
            sensible = index is None
        if not sensible:
            raise RefusalError(422)
        return self.anything(value)

    def anything(self, value: Any) -> Any:
        """Files anywhere in a value are files that are here; all else stays as it is."""
        if isinstance(value, dict):
            if "path" in value or "url" in value or "meta" in value:
                return self.reference(value)
            return {key: self.anything(v) for key, v in value.items()}
        if isinstance(value, list):
            return [self.anything(v) for v in value]
        return value


def parse(body: bytes) -> dict[str, Any]:
    """A JSON object, no deeper than DEPTH, with numbers below LARGEST."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise RefusalError(400, "This is not JSON; NaN and Infinity are not either.") from None
    if not isinstance(content, dict):
        raise RefusalError(422, "The request must be a JSON object with a list named data.")
    if depth(content) > DEPTH:
        raise RefusalError(422, "This JSON is nested too deeply.")
    return content


def depth(value: Any) -> int:
    """How deeply lists and objects lie in each other; without recursion, whose own limit is no deeper."""
    deepest = 0
    waiting = [(value, 1)]
    while waiting:
        item, level = waiting.pop()
        inner = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        deepest = max(deepest, level)
        if level <= DEPTH:
            waiting.extend((part, level + 1) for part in inner)
    return deepest


def _valid(model: type[Any], content: dict[str, Any]) -> Any:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        name = str(error.errors(include_url=False)[0]["loc"][0])
        raise RefusalError(422, f"The request's {name} is missing or not what it should be.") from None


def number(label: str, value: Any) -> float:
    """A finite number of sensible size."""
    if not _is_number(value) or not math.isfinite(value) or abs(value) > LARGEST:
        raise RefusalError(422, f"The value of {label} must be a number.")
    return value


def text(label: str, value: Any) -> str:
    if not isinstance(value, str):
        raise RefusalError(422, f"The value of {label} must be text.")
    if len(value) > TEXT:
        raise RefusalError(422, f"The value of {label} is too long.")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _refuse_address(value: str, own: bool = False) -> None:
    """Raises RefusalError for what names another place.

    own: the page's own addresses of files are meant, and ignored.
    """
    lowered = value.strip().lower().replace("\\", "/")
    if own and "/gradio_api/file=/" in lowered and lowered.count("://") <= 1 and not lowered.startswith("//"):
        return
    if "://" in lowered or lowered.startswith(("//", "data:", "javascript:", "blob:", "file:")):
        raise RefusalError(400, FETCHES_NOTHING)


def clean_name(name: str | None) -> str | None:
    """The visitor's own name of a file, for the download's name in the browser alone; None if there
    is none.
    """
    if not name:
        return None
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    kept = "".join(c for c in last if c.isprintable()).strip(" .")
    return kept[:200] or None


def label_of(block: Any, number_: int) -> str:
    """How a message calls an input: its label if it is plain text, else its place."""
    label = getattr(block, "label", None)
    return label if isinstance(label, str) and label.isidentifier() else f"value {number_ + 1}"
