"""Signatures of bundles, in the format of minisign (Ed25519): whoever has the public key knows that no byte changed."""
