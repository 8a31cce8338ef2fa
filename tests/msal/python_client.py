"""Microsoft's library for Python, driven by a test: `python_client.py sign-in|device|token|silent CACHE_FILE`.

The cache is an MSAL unified cache, read if it is there and written if it changed. Prints lines of JSON: what a person
is to do, then the outcome. After `{"open": URL}` it reads one line, the address at which that sign-in ended.
"""

import json
import os
import sys
from urllib.parse import parse_qsl, urlsplit

import msal
import requests

CLIENT_ID = "11111111-1111-4111-8111-111111111111"
AUTHORITY = os.environ["AUTHORITY"]
SCOPES = ["User.Read", "Mail.Read"]


def say(**what):
    print(json.dumps(what), flush=True)


def sign_in(app):
    flow = app.initiate_auth_code_flow(SCOPES, redirect_uri="http://localhost:1/")
    say(open=flow["auth_uri"])
    landing = urlsplit(sys.stdin.readline().strip())
    return app.acquire_token_by_auth_code_flow(flow, dict(parse_qsl(landing.query)))


def device(app):
    flow = app.initiate_device_flow(SCOPES)
    say(verify=flow["verification_uri"], code=flow["user_code"], message=flow["message"])
    return app.acquire_token_by_device_flow(flow)


def token(app):
    # As programs do it: the stored access token while it lasts, else a silent refresh.
    [account] = app.get_accounts()
    return app.acquire_token_silent_with_error(SCOPES, account)


def silent(app):
    [account] = app.get_accounts()
    # Two refreshes: the second one shows that the first one's rotated token was kept.
    app.acquire_token_silent_with_error(SCOPES, account, force_refresh=True)
    return app.acquire_token_silent_with_error(SCOPES, account, force_refresh=True)


def outcome(result):
    if "access_token" not in result:
        return {key: result.get(key) for key in ("error", "suberror", "error_codes", "classification")}
    bearer = {"Authorization": "Bearer " + result["access_token"]}
    me = requests.get("https://graph.microsoft.com/v1.0/me", headers=bearer, timeout=30)
    claims = result.get("id_token_claims") or {}
    return {"mail": me.json()["mail"], "from": result["token_source"], "tid": claims.get("tid")}


def main(verb, file):
    cache = msal.SerializableTokenCache()
    if os.path.exists(file):
        with open(file, encoding="utf-8") as stored:
            cache.deserialize(stored.read())
    app = msal.PublicClientApplication(CLIENT_ID, authority=AUTHORITY, token_cache=cache)
    result = {"sign-in": sign_in, "device": device, "token": token, "silent": silent}[verb](app)
    if cache.has_state_changed:
        with open(file, "w", encoding="utf-8") as stored:
            stored.write(cache.serialize())
    say(**outcome(result))


main(*sys.argv[1:])
