"""Signing manifests: a compact JWS by HS256 or EdDSA, made with one JWK from a file."""

import json
import warnings
from pathlib import Path
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import OctKey, OKPKey, import_key

__all__ = ["Signer"]


class Signer:
    """Signs with the key in `path`: a JWK of type `oct` (HS256) or `OKP` Ed25519 (EdDSA), with a `kid`."""

    def __init__(self, path: Path) -> None:
        try:
            key = import_key(json.loads(path.read_text()))
        except (OSError, ValueError, JoseError) as error:
            raise ValueError(f"{path}: not a JWK: {error}") from error
        if not isinstance(key, OctKey | OKPKey) or not key.kid or not key.is_private:
            raise ValueError(f"{path}: a private JWK of type oct or OKP with a kid is needed")
        self._key = key
        self.algorithm = "HS256" if isinstance(key, OctKey) else "EdDSA"

    def sign(self, manifest: dict[str, Any]) -> str:
        """Return the compact JWS of the manifest."""
        header = {"alg": self.algorithm, "kid": self._key.kid}
        with warnings.catch_warnings():
            # RFC 9864 renames EdDSA; the contract's name is the one that is deployed.
            warnings.simplefilter("ignore", SecurityWarning)
            return jws.serialize_compact(header, json.dumps(manifest).encode(), self._key, [self.algorithm])

    def jwks(self) -> dict[str, Any] | None:
        """Return the public keys for the register answer; None for HS256, whose key would let nodes sign."""
        return {"keys": [self._key.as_dict(private=False)]} if self.algorithm == "EdDSA" else None
