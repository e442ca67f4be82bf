"""What the description cannot say."""

import base64
import hashlib

import schemathesis


@schemathesis.hook
def map_body(context, body):
    """Which texts are public keys no schema tells, so every text becomes one."""
    if isinstance(body, dict) and isinstance(body.get("public_key"), str):
        return {**body, "public_key": _key(body["public_key"])}
    if isinstance(body, dict) and isinstance(body.get("host_keys"), list):
        keys = [_key(key) if isinstance(key, str) else key for key in body["host_keys"]]
        return {**body, "host_keys": keys}
    return body


def _key(text):
    seed = text.encode("utf-8", "surrogatepass")
    blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + hashlib.sha256(seed).digest()
    return "ssh-ed25519 " + base64.b64encode(blob).decode()


@schemathesis.hook
def filter_body(context, body):
    """JSON Schema takes 5432.0 for an integer, and the server does not."""
    return not _holds_a_whole_float(body)


def _holds_a_whole_float(value):
    if isinstance(value, dict):
        return any(_holds_a_whole_float(member) for member in value.values())
    if isinstance(value, list):
        return any(_holds_a_whole_float(item) for item in value)
    return isinstance(value, float) and value.is_integer()
