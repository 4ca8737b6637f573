"""A request that is refused, and what is said of it."""

from ui.security.limits import JSON_BYTES, UPLOAD_BYTES, megabytes

SENTENCES = {
    400: "This request was not understood.",
    403: "This request was refused; open the page at its own address.",
    404: "There is nothing at this address.",
    405: "This address does not take such requests.",
    408: "The request took too long to arrive; try again.",
    411: "The request must say how long it is.",
    413: f"This is too large; a photo may have {megabytes(UPLOAD_BYTES)} MB, "
    f"any other request {megabytes(JSON_BYTES)} MB.",
    415: "This address takes JSON, or for uploads a form.",
    421: "This server is not called by that name; see AGEDIT_HOSTS in the README.",
    422: "The values of this request make no sense here.",
    500: "Something went wrong here; try again.",
    503: "This machine is busy; try again in a moment.",
    507: "There is no room for another photo on this machine; try again later.",
}
"""By the status of the answer."""


class RefusalError(Exception):
    """A request that ends in one sentence."""

    def __init__(self, status: int, sentence: str = "") -> None:
        super().__init__(sentence or SENTENCES[status])
        self.status = status
        self.sentence = sentence or SENTENCES[status]


class HungUpError(Exception):
    """The client hung up while its request was still arriving."""
