"""What docs/protocol.md says, written from that page alone: keys, words, invites, sealing and opening.

Signatures are jwcrypto's and encryption is the `age` command's. Knows no network.
"""

import base64
import hashlib
import hmac
import json
import re
import subprocess
import time
import uuid

from jwcrypto.common import json_encode
from jwcrypto.jwk import JWK
from jwcrypto.jws import JWS

MAX_MESSAGE = 256 * 1024
MAX_AGE_HEADER = 1024
MAX_STANZAS = 3


class Refused(Exception):
    """Why something was not believed."""


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text):
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if b64(data) != text:
        raise Refused("base64url with padding or in another form")
    return data


def thumbprint(sign):
    canonical = json.dumps(
        {name: sign[name] for name in ("crv", "kty", "x")}, separators=(",", ":"), sort_keys=True
    )
    return b64(hashlib.sha256(canonical.encode()).digest())


def words(public, word_list):
    """Four words for both keys; `word_list` is the BIP-39 English list."""
    password = f"{thumbprint(public['sign'])}\n{public['age']}".encode()
    digest = hashlib.scrypt(
        password, salt=b"valetkey/words/v1", n=2**16, r=8, p=1, dklen=32, maxmem=128 * 1024 * 1024
    )
    number = int.from_bytes(digest[:8], "big")
    return [word_list[number >> (64 - 11 * (place + 1)) & 2047] for place in range(4)]


class Keys:
    """The two secret keys of a device (or, to read its messages, of an agent)."""

    def __init__(self, sign, age):
        self.sign, self.age = sign, age
        recipient = subprocess.run(
            ["age-keygen", "-y"], input=age.encode(), capture_output=True, check=True
        ).stdout
        self.recipient = recipient.decode().strip()

    @classmethod
    def generate(cls):
        made = subprocess.run(["age-keygen"], capture_output=True, check=True).stdout.decode()
        age = re.search("AGE-SECRET-KEY-[0-9A-Z]+", made)[0]
        return cls(JWK.generate(kty="OKP", crv="Ed25519"), age)

    @classmethod
    def from_json(cls, text):
        parts = json.loads(text)
        return cls(JWK(**parts["sign"]), parts["age"])

    def public(self):
        sign = self.sign.export_public(as_dict=True)
        return {"sign": {name: sign[name] for name in ("kty", "crv", "x")}, "age": self.recipient}

    def name(self):
        return thumbprint(self.public()["sign"])


class Invite:
    def __init__(self, link):
        self.facts = json.loads(unb64(link.strip().removeprefix("valetkey://invite/")))
        if self.facts["v"] != 1:
            raise Refused("an invite of another version")
        self.secret = unb64(self.facts["secret"])
        self.agent = self.facts["agent"]
        self.agent_name = thumbprint(self.agent["sign"])
        self.id = b64(hashlib.sha256(b"valetkey/invite-id/v1" + self.secret).digest()[:16])

    def proof(self, device, age_file):
        lines = [
            "valetkey/enroll/v1",
            self.agent_name,
            self.id,
            thumbprint(device["sign"]),
            device["age"],
            b64(hashlib.sha256(age_file).digest()),
        ]
        return b64(hmac.digest(self.secret, "\n".join(lines).encode(), "sha256"))


def encrypt(plain, recipient):
    return subprocess.run(["age", "-r", recipient], input=plain, capture_output=True, check=True).stdout


def decrypt(age_file, identity_file):
    """With Debian's own `age`; the identity is in a file, so that it is in no command line."""
    end = age_file[:MAX_AGE_HEADER].find(b"\n--- ")
    if end < 0 or age_file[:end].count(b"\n-> ") > MAX_STANZAS:
        raise Refused("the header of the age file is too large")
    ran = subprocess.run(["age", "-d", "-i", identity_file], input=age_file, capture_output=True)
    if ran.returncode != 0:
        raise Refused("age cannot open it")
    return ran.stdout


def seal(keys, to, kind, body, counter, invite=None):
    """A message as text, and its `jti`."""
    me, jti = keys.name(), str(uuid.uuid4())
    inner = {"v": 1, "iss": me, "jti": jti, "kind": kind, "body": body}
    age_file = encrypt(json.dumps(inner).encode(), to["age"])
    header = {
        "alg": "EdDSA",
        "typ": "valetkey+age",
        "kid": me,
        "iss": me,
        "aud": thumbprint(to["sign"]),
        "jti": jti,
        "gen": counter,
        "iat": int(time.time()),
    }
    if invite:
        device = keys.public()
        header["exp"] = invite.facts["exp"]
        header["enroll"] = {"invite": invite.id, "device": device, "proof": invite.proof(device, age_file)}
    jws = JWS(age_file)
    jws.add_signature(keys.sign, None, json_encode(header))
    return jws.serialize(compact=True), jti


def verify(text, sender):
    """Header and age file of a message, its signature checked under the sender's key."""
    if len(text) > MAX_MESSAGE or text.count(".") != 2:
        raise Refused("not a message")
    jws = JWS()
    try:
        jws.deserialize(text, JWK(**sender["sign"]))
    except Exception as problem:
        raise Refused("the signature is not the sender's") from problem
    header = json.loads(unb64(text.split(".")[0]))
    known = {"alg", "typ", "kid", "iss", "aud", "jti", "gen", "iat", "exp", "enroll"}
    if set(header) - known or (header["alg"], header["typ"]) != ("EdDSA", "valetkey+age"):
        raise Refused("not a header of this protocol")
    if not header["kid"] == header["iss"] == thumbprint(sender["sign"]):
        raise Refused("another sender")
    return header, jws.payload


def open_message(text, sender, me, identity_file):
    """Header, kind and body."""
    header, age_file = verify(text, sender)
    if header["aud"] != me:
        raise Refused("addressed to somebody else")
    inner = json.loads(decrypt(age_file, identity_file))
    if inner["v"] != 1 or (inner["iss"], inner["jti"]) != (header["iss"], header["jti"]):
        raise Refused("sealed by one sender and signed by another")
    return header, inner["kind"], inner["body"]
