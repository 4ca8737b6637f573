"""By which name the server is called, and from where."""

from starlette.types import Scope

from ui import hosts
from ui.security.refusal import RefusalError
from ui.security.routes import READS, header_values


def check_host(scope: Scope, names: frozenset[str]) -> str:
    """The Host header.

    Another name than ours means that somebody's name was made to point at this machine.
    """
    given = header_values(scope, b"host")
    if len(given) != 1:
        raise RefusalError(400)
    host = hosts.split(given[0])
    if host is None:
        raise RefusalError(400)
    if not (hosts.is_loopback(host[0]) or host[0] in names):
        raise RefusalError(421)
    return given[0].lower()


def check_origin(scope: Scope) -> None:
    """Other sites get nothing: neither answers nor effects. A link to the page itself may be followed.

    Browsers say where a request comes from in Origin (all but the simplest requests) and in Sec-Fetch-Site.
    Programs (curl, gradio_client) say neither: they may write when they call this machine by a loopback name.
    """
    origins = header_values(scope, b"origin")
    sites = header_values(scope, b"sec-fetch-site")
    host = header_values(scope, b"host")[0].lower()
    if len(origins) > 1 or len(sites) > 1:
        raise RefusalError(403)
    if origins and origins[0].lower() not in (f"http://{host}", f"https://{host}"):
        raise RefusalError(403)
    if sites and sites[0].lower() not in ("same-origin", "none") and not _follows_link(scope):
        raise RefusalError(403)
    name = hosts.split(host)
    if scope["method"] not in READS and not origins and not (name and hosts.is_loopback(name[0])):
        raise RefusalError(403)


def _follows_link(scope: Scope) -> bool:
    mode = header_values(scope, b"sec-fetch-mode")
    target = header_values(scope, b"sec-fetch-dest")
    return (
        scope["path"] == "/" and scope["method"] in READS and mode == ["navigate"] and target == ["document"]
    )
