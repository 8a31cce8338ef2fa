//! One request, one answer.

use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderName, HeaderValue, LOCATION,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode, Uri};
use tokio::sync::mpsc;

use super::desk::{Desk, Taken};
use super::{Callback, parameters};

/// Where the page is, so that the code is not in the address bar or the history any more.
const DONE: &str = "/done";
/// A form is the query in a body: Entra's codes are at most a few KiB.
const MAX_FORM: usize = 32 * 1024;
/// A browser on this computer sends a form at once.
const FORM_TIMEOUT: Duration = Duration::from_secs(5);
/// No script, nothing fetched, no frame, no form: the page is read and closed.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

type Answer = Response<Full<Bytes>>;

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    CallbackByQuery,
    CallbackByForm,
    Page,
}

/// The answer, and whether it is the page.
pub(super) async fn answer(
    request: Request<Incoming>,
    desk: &Desk,
    callbacks: &mpsc::Sender<Callback>,
) -> (Answer, bool) {
    let asked = match sort(request.method(), request.uri(), request.headers(), desk.port()) {
        Ok(asked) => asked,
        Err(status) => return (refuse(desk, status), false),
    };
    let parameters = match asked {
        Asked::Page => return show(desk).await,
        Asked::CallbackByQuery => parameters::parse(request.uri().query().unwrap_or_default().as_bytes()),
        Asked::CallbackByForm => match form(request.into_body()).await {
            Ok(form) => parameters::parse(&form),
            Err(status) => return (refuse(desk, status), false),
        },
    };
    let taken = parameters.map_or(Taken::Refused, |parameters| desk.take(parameters));
    let answer = match taken {
        Taken::Accepted(callback) => match callbacks.send(callback).await {
            Ok(()) => see_done(),
            Err(_) => refuse(desk, StatusCode::GONE),
        },
        Taken::Duplicate => see_done(),
        Taken::Refused => refuse(desk, StatusCode::BAD_REQUEST),
    };
    (answer, false)
}

/// Exactly the callback's path and the page's, under the names this listener has: a page elsewhere that makes its own
/// name point to this computer (DNS rebinding) is told nothing.
fn sort(method: &Method, uri: &Uri, headers: &hyper::HeaderMap, port: u16) -> Result<Asked, StatusCode> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok());
    let ours = |name: &str| {
        name.eq_ignore_ascii_case(&format!("localhost:{port}")) || name == format!("127.0.0.1:{port}")
    };
    if !host.is_some_and(ours)
        || hosts.next().is_some()
        || uri.authority().is_some_and(|name| !ours(name.as_str()))
    {
        return Err(StatusCode::MISDIRECTED_REQUEST);
    }
    match (uri.path(), method) {
        ("/", &Method::GET) => Ok(Asked::CallbackByQuery),
        ("/", &Method::POST) if is_form(headers) => Ok(Asked::CallbackByForm),
        ("/", &Method::POST) => Err(StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (DONE, &Method::GET) => Ok(Asked::Page),
        ("/" | DONE, _) => Err(StatusCode::METHOD_NOT_ALLOWED),
        _ => Err(StatusCode::NOT_FOUND),
    }
}

fn is_form(headers: &hyper::HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

async fn form(body: Incoming) -> Result<Bytes, StatusCode> {
    match tokio::time::timeout(FORM_TIMEOUT, Limited::new(body, MAX_FORM).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(_)) => Err(StatusCode::PAYLOAD_TOO_LARGE),
        Err(_) => Err(StatusCode::REQUEST_TIMEOUT),
    }
}

fn see_done() -> Answer {
    let mut answer = respond(StatusCode::SEE_OTHER, String::new());
    answer.headers_mut().insert(LOCATION, HeaderValue::from_static(DONE));
    answer
}

async fn show(desk: &Desk) -> (Answer, bool) {
    match desk.page().await {
        Some(page) => (respond(StatusCode::from_u16(page.status).unwrap_or(StatusCode::OK), page.html), true),
        None => (refuse(desk, StatusCode::NOT_FOUND), false),
    }
}

/// Nothing of the request is in the answer.
fn refuse(desk: &Desk, status: StatusCode) -> Answer {
    let mut answer = respond(status, desk.refusal().map_or_else(|| status.to_string(), str::to_owned));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, POST"));
    }
    answer
}

fn respond(status: StatusCode, html: String) -> Answer {
    const HEADERS: [(HeaderName, &str); 5] = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
        (REFERRER_POLICY, "no-referrer"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    let mut answer = Response::new(Full::from(html));
    *answer.status_mut() = status;
    answer.headers_mut().extend(HEADERS.map(|(name, value)| (name, HeaderValue::from_static(value))));
    answer
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;

    use super::*;

    fn ask(method: &str, uri: &str, headers: &[(&'static str, &'static str)]) -> Result<Asked, StatusCode> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        sort(&method.parse().unwrap(), &uri.parse().unwrap(), &map, 4000)
    }

    const HERE: (&str, &str) = ("host", "localhost:4000");
    const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded; charset=UTF-8");

    #[test]
    fn the_callback_and_its_page_are_all_there_is() {
        assert_eq!(ask("GET", "/?code=c", &[HERE]), Ok(Asked::CallbackByQuery));
        assert_eq!(ask("POST", "/", &[HERE, FORM]), Ok(Asked::CallbackByForm));
        assert_eq!(ask("GET", "/done", &[HERE]), Ok(Asked::Page));
        assert_eq!(ask("GET", "http://localhost:4000/?x", &[HERE]), Ok(Asked::CallbackByQuery));
        for path in
            ["/favicon.ico", "//", "/?/../done/", "/DONE", "/done/", "/callback", "/%64one", "/.well-known/x"]
        {
            let expected =
                if path.starts_with("/?") { Ok(Asked::CallbackByQuery) } else { Err(StatusCode::NOT_FOUND) };
            assert_eq!(ask("GET", path, &[HERE]), expected, "{path}");
        }
        for method in ["HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"] {
            assert_eq!(ask(method, "/", &[HERE]), Err(StatusCode::METHOD_NOT_ALLOWED), "{method}");
        }
        assert_eq!(ask("POST", "/", &[HERE]), Err(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        assert_eq!(
            ask("POST", "/", &[HERE, ("content-type", "text/plain")]),
            Err(StatusCode::UNSUPPORTED_MEDIA_TYPE)
        );
    }

    #[test]
    fn other_names_for_this_computer_are_refused() {
        for host in ["localhost:4000", "LocalHost:4000", "127.0.0.1:4000"] {
            assert_eq!(ask("GET", "/", &[("host", host)]), Ok(Asked::CallbackByQuery), "{host}");
        }
        let elsewhere = Err(StatusCode::MISDIRECTED_REQUEST);
        for host in [
            "",
            "localhost",
            "localhost:4001",
            "evil.example:4000",
            "127.0.0.2:4000",
            "[::1]:4000",
            "localhost:4000.evil.example",
        ] {
            assert_eq!(ask("GET", "/", &[("host", host)]), elsewhere, "{host}");
        }
        assert_eq!(ask("GET", "/", &[]), elsewhere);
        assert_eq!(ask("GET", "/", &[HERE, HERE]), elsewhere);
        assert_eq!(ask("GET", "http://evil.example/", &[HERE]), elsewhere);
    }
}
