"""C2PA content credentials: a signed note inside the file that the picture was edited by a network.

Made without any network and without anybody's name: each picture is signed by a key of its own that is
thrown away, so that two pictures cannot be traced to one device. Readers therefore find the note whole and
its signer unknown. Where the library is missing or fails, the picture goes without; its other marks are in
`agedit.mark`.
"""

import datetime
import functools
import io
import os
from types import ModuleType
from typing import Any

from agedit.mark import SOURCE, WORDS

MEDIA_TYPES = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "WEBP": "image/webp",
    "TIFF": "image/tiff",
    "GIF": "image/gif",
    "MP4": "video/mp4",
}
DAYS_VALID = 3650
# no thumbnail: it would be a second copy of the face. Nothing is fetched and no clock server is asked.
SETTINGS = {
    "builder": {"thumbnail": {"enabled": False}},
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False, "verify_after_sign": False},
}


@functools.lru_cache(maxsize=1)
def _library() -> ModuleType | None:
    """The C2PA library, or None where it is missing, cannot be loaded, or was switched off."""
    if os.environ.get("AGEDIT_CREDENTIALS") == "0":
        return None
    try:
        import c2pa
        import cryptography  # noqa: F401  it makes the keys
    except Exception:  # a native library: what it raises where it does not fit is its own affair
        return None
    return c2pa


def add_credentials(data: bytes, format: str) -> bytes:
    """File content with content credentials inside, or `data` itself where they cannot be added.

    Args:
        format: a key of MEDIA_TYPES; others have no place for them.
    """
    c2pa = _library()
    media_type = MEDIA_TYPES.get(format)
    if c2pa is None or media_type is None:
        return data
    try:
        return _signed(c2pa, data, media_type)
    except Exception:  # a picture without credentials is better than none
        return data


def _signed(c2pa: ModuleType, data: bytes, media_type: str) -> bytes:
    certificates, key = _signer()
    info = c2pa.C2paSignerInfo(alg=b"es256", sign_cert=certificates, private_key=key, ta_url=None)
    signed = io.BytesIO()
    with (
        c2pa.Context(c2pa.Settings.from_dict(SETTINGS)) as context,
        c2pa.Signer.from_info(info) as signer,
        c2pa.Builder(_manifest(media_type), context) as builder,
    ):
        builder.sign(signer, media_type, io.BytesIO(data), signed)
    return signed.getvalue()


def _manifest(media_type: str) -> dict[str, Any]:
    made = {"action": "c2pa.created", "digitalSourceType": SOURCE, "description": WORDS}
    return {
        "claim_generator_info": [{"name": "AgeEdit"}],
        "title": "Edited picture",
        "format": media_type,
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [made]}}],
    }


def _signer() -> tuple[bytes, bytes]:
    """(certificates, private key), both PEM, for one picture, with the authority that vouches for it."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    authority_key = ec.generate_private_key(ec.SECP256R1())
    key = ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("AgeEdit, one picture", authority_key, authority_key)
    certificate = _certificate("AgeEdit", key, authority_key, authority)
    pem = serialization.Encoding.PEM
    chain = certificate.public_bytes(pem) + authority.public_bytes(pem)
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return chain, private


def _certificate(name: str, key: Any, signer_key: Any, authority: Any = None) -> Any:
    """An X.509 certificate; of an authority where none is given."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "AgeEdit"),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )
    is_authority = authority is None
    today = datetime.datetime.now(datetime.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    usage = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if is_authority else authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=DAYS_VALID))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer_key.public_key()), critical=False
        )
        .add_extension(
            x509.KeyUsage(digital_signature=True, key_cert_sign=is_authority, crl_sign=is_authority, **usage),
            critical=True,
        )
    )
    if not is_authority:
        purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(purpose, critical=False)
    return builder.sign(signer_key, hashes.SHA256())
