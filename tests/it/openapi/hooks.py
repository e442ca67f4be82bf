"""What the description cannot say."""

import base64
import hashlib
import json
import re

import schemathesis


@schemathesis.hook
def before_call(context, case, kwargs):
    """Which texts are public keys no schema tells, so every text becomes one. Which are cursors neither: they
    are signed. Nor which regions there are; nor that a key for a request is for one body: by chance it would come with two."""
    if case.query:
        case.query.pop("cursor", None)
    body = case.body
    key = (case.headers or {}).get("Idempotency-Key")
    if isinstance(key, str) and re.fullmatch(r"[!#-\[\]-~]{1,200}", key):
        text = json.dumps(body, default=str)
        case.headers["Idempotency-Key"] = key + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    if not isinstance(body, dict):
        return
    if isinstance(body.get("region"), str) and re.fullmatch(r"[A-Za-z0-9._-]{1,100}", body["region"]):
        body = case.body = {**body, "region": "default"}
    if isinstance(body.get("public_key"), str):
        case.body = {**body, "public_key": _key(body["public_key"])}
    if isinstance(body.get("host_keys"), list):
        keys = [_key(key) if isinstance(key, str) else key for key in body["host_keys"]]
        case.body = {**body, "host_keys": keys}


def _key(text):
    seed = text.encode("utf-8", "surrogatepass")
    blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + hashlib.sha256(seed).digest()
    return "ssh-ed25519 " + base64.b64encode(blob).decode()


@schemathesis.hook
def filter_body(context, body):
    """JSON Schema takes 5432.0 for an integer, and the server does not. No pattern says in one line which
    characters are invisible: those that Unicode lets be ignored, and separators of lines."""
    text = json.dumps(body, ensure_ascii=False, default=str)
    return not _holds_a_whole_float(body) and not _HIDDEN.search(text)


_HIDDEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def _holds_a_whole_float(value):
    if isinstance(value, dict):
        return any(_holds_a_whole_float(member) for member in value.values())
    if isinstance(value, list):
        return any(_holds_a_whole_float(item) for item in value)
    return isinstance(value, float) and value.is_integer()
