"""How large a request may be."""

JSON_BYTES = 1 << 20
"""Largest JSON body, bytes."""

UPLOAD_BYTES = 60 << 20
"""Largest photo, bytes."""

FORM_BYTES = 64 << 10
"""Largest form around an upload, the photo not counted, bytes."""


def megabytes(count: int) -> int:
    """Bytes in whole megabytes (2^20 bytes), as people are told."""
    return count >> 20
