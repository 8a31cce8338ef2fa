"""A device of another make: pairs with an agent, signs in, hands over, and believes only what it can verify.

Talks in lines of JSON: a request on standard input, its answer on standard output. Written from docs/protocol.md alone.

    device.py FOLDER LINK_FILE WORD_LIST     a device; FOLDER keeps its key
    device.py open KEYS_FILE SENDER_FILE     opens messages of others: {"message": "…"} a line
"""

import base64
import hashlib
import json
import os
import queue
import secrets
import sys
import urllib.parse

import paho.mqtt.client as mqtt
import requests

import wire

PATIENCE = 60
SEND_AGAIN = 5


class Broker:
    """One MQTT connection; what is published has been acknowledged when `publish` returns."""

    def __init__(self, invite, me):
        access = invite.facts["broker"]
        at = urllib.parse.urlsplit(access["url"])
        assert at.scheme == "mqtt", "this device speaks plain MQTT only"
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=me, protocol=mqtt.MQTTv5)
        if "username" in access:
            self.client.username_pw_set(access["username"], access.get("password"))
        self.heard, ready = queue.Queue(), queue.Queue()
        out = f"valetkey/v1/{invite.agent_name}/out/{me}"
        self.client.on_connect = lambda client, *_: client.subscribe(out, qos=1)
        self.client.on_subscribe = lambda *_: ready.put(None)
        # Brokers have delivered foreign topics: they are compared.
        self.client.on_message = lambda _, __, got: self.heard.put(got.payload) if got.topic == out else None
        self.client.connect(at.hostname, at.port or 1883)
        self.client.loop_start()
        ready.get(timeout=PATIENCE)

    def publish(self, topic, text):
        self.client.publish(topic, text, qos=1).wait_for_publish(PATIENCE)


class Device:
    def __init__(self, folder, link_file, word_list):
        with open(link_file, encoding="ascii") as file:
            self.invite = wire.Invite(file.read())
        with open(word_list, encoding="ascii") as file:
            self.word_list = file.read().split()
        self.keys = wire.Keys.generate()
        self.me = self.keys.name()
        self.identity_file = write_private(os.path.join(folder, "identity"), self.keys.age)
        self.counter, self.broker, self.sent, self.flow = 0, None, None, None

    def topic(self, name):
        return f"valetkey/v1/{self.invite.agent_name}/{name}"

    def read(self, _):
        facts = self.invite.facts
        return {
            "agent": self.invite.agent_name,
            "device": self.me,
            "invite": self.invite.id,
            "name": facts["name"],
            "terms": facts["terms"],
            "words": wire.words(self.invite.agent, self.word_list),
        }

    def pair(self, request):
        self.broker = self.broker or Broker(self.invite, self.me)
        invite = self.invite
        if "secret" in request:
            invite = wire.Invite(link_of({**invite.facts, "secret": request["secret"]}))
            invite.id = self.invite.id
        body = {"device_name": "A device of another make"}
        text, _ = wire.seal(self.keys, self.invite.agent, "enroll", body, self.counter, invite)
        topic = self.topic(f"enroll/{self.invite.id}")
        if "secret" in request:
            self.broker.publish(topic, text)
            return {}
        return self.ask(topic, text, lambda _, kind, __: kind == "enrolled")

    def hello(self, _):
        text, jti = wire.seal(self.keys, self.invite.agent, "hello", {}, self.counter)
        answers = lambda _, kind, body: kind == "state" and body.get("answers") == jti
        return self.ask(self.topic(f"in/{self.me}"), text, answers)

    def authorize(self, request):
        terms = self.invite.facts["terms"]
        self.flow = {
            "verifier": secrets.token_urlsafe(48),
            "state": secrets.token_urlsafe(16),
            "nonce": secrets.token_urlsafe(16),
            "redirect_uri": f"http://localhost:{request['port']}",
        }
        challenge = base64.urlsafe_b64encode(hashlib.sha256(self.flow["verifier"].encode()).digest())
        query = {
            "client_id": terms["client_id"],
            "response_type": "code",
            "redirect_uri": self.flow["redirect_uri"],
            "scope": request["scope"],
            "state": self.flow["state"],
            "nonce": self.flow["nonce"],
            "code_challenge": challenge.rstrip(b"=").decode(),
            "code_challenge_method": "S256",
            "login_hint": terms["email"],
            "prompt": "login",
        }
        return {"url": f"{self.login()}/authorize?{urllib.parse.urlencode(query)}"}

    def login(self):
        terms = self.invite.facts["terms"]
        return f"{terms['authority'].rstrip('/')}/{terms['tenant']}/oauth2/v2.0"

    def hand_over(self, request):
        """From the redirect's address to the agent's receipt."""
        answer = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(request["redirect"]).query))
        assert answer["state"] == self.flow["state"]
        terms = self.invite.facts["terms"]
        form = {
            "grant_type": "authorization_code",
            "client_id": terms["client_id"],
            "code": answer["code"],
            "redirect_uri": self.flow["redirect_uri"],
            "code_verifier": self.flow["verifier"],
            "client_info": "1",
        }
        got = requests.post(f"{self.login()}/token", data=form, timeout=PATIENCE)
        assert got.ok, got.text
        tokens = got.json()
        claims = json.loads(base64.urlsafe_b64decode(tokens["id_token"].split(".")[1] + "=="))
        assert claims["nonce"] == self.flow["nonce"]
        self.counter += 1
        body = {
            "account": {"tid": claims["tid"], "oid": claims["oid"], "username": terms["email"]},
            "authority": terms["authority"],
            "tenant": claims["tid"],
            "client_id": terms["client_id"],
            "scopes": tokens["scope"].split(),
            "capabilities": terms["capabilities"],
            "expires_at": int(claims["iat"]) + int(tokens["expires_in"]),
            "cache": msal_cache(terms, claims, tokens),
        }
        text, jti = wire.seal(self.keys, self.invite.agent, "auth.cache.updated", body, self.counter)
        self.sent = text, jti
        return self.deliver()

    def again(self, _):
        return self.deliver()

    def deliver(self):
        text, jti = self.sent
        receipt = lambda _, kind, body: kind == "receipt" and body["of"] == jti
        return self.ask(self.topic(f"in/{self.me}"), text, receipt)

    def altered(self, request):
        """The handoff with one bit of one part another."""
        parts = self.sent[0].split(".")
        data = bytearray(wire.unb64(parts[request["part"]]))
        data[len(data) // 2] ^= 1
        parts[request["part"]] = wire.b64(bytes(data))
        self.broker.publish(self.topic(f"in/{self.me}"), ".".join(parts))
        return {}

    def ask(self, topic, text, wanted):
        """Sends the same bytes until the answer comes, and returns it. What is not the agent's own word is an error."""
        for _ in range(PATIENCE // SEND_AGAIN):
            self.broker.publish(topic, text)
            try:
                while True:
                    payload = self.broker.heard.get(timeout=SEND_AGAIN).decode("ascii")
                    opened = wire.open_message(payload, self.invite.agent, self.me, self.identity_file)
                    if wanted(*opened):
                        header, kind, body = opened
                        return {"kind": kind, "body": body, "header": header}
            except queue.Empty:
                pass
        raise TimeoutError("no answer")


def msal_cache(terms, claims, tokens):
    """As docs/protocol.md has it: an account and its refresh token."""
    host = urllib.parse.urlsplit(terms["authority"]).hostname
    home, client = f"{claims['oid']}.{claims['tid']}", terms["client_id"]
    account = {
        "home_account_id": home,
        "environment": host,
        "realm": claims["tid"],
        "local_account_id": claims["oid"],
        "username": terms["email"],
        "authority_type": "MSSTS",
    }
    refresh_token = {
        "home_account_id": home,
        "environment": host,
        "credential_type": "RefreshToken",
        "client_id": client,
        "secret": tokens["refresh_token"],
    }
    return {
        "Account": {f"{home}-{host}-{claims['tid']}": account},
        "RefreshToken": {f"{home}-{host}-refreshtoken-{client}---": refresh_token},
    }


def link_of(facts):
    return "valetkey://invite/" + wire.b64(json.dumps(facts).encode())


def write_private(path, text):
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(text + "\n")
    return path


class Reader:
    """Opens what others made for the owner of these keys."""

    def __init__(self, keys_file, sender_file):
        with open(keys_file, encoding="ascii") as file:
            self.keys = wire.Keys.from_json(file.read())
        with open(sender_file, encoding="ascii") as file:
            self.sender = json.loads(file.read())
        self.identity_file = write_private(keys_file + ".identity", self.keys.age)

    def open(self, request):
        opened = wire.open_message(request["message"], self.sender, self.keys.name(), self.identity_file)
        return dict(zip(("header", "kind", "body"), opened))


def main(arguments):
    if arguments[0] == "open":
        party = Reader(*arguments[1:])
    else:
        party = Device(*arguments)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"ok": getattr(party, request["do"])(request)}
        except wire.Refused as why:
            answer = {"refused": str(why)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
