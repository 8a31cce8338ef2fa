//! Microsoft's own libraries, unmodified, against the practice tenant under Microsoft's own names.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use valetkey_tests::http_sign_in::{http_device_sign_in, http_sign_in_up_to_redirect};
use valetkey_tests::private_network::{enter, msal_folder, python};
use valetkey_tests::tenant::{ALICE, Reuse, Tenant};

#[derive(Clone, Copy)]
enum Library {
    Python,
    Node,
}

/// One run of a library: a verb, a cache file, and a conversation in lines of JSON.
struct Run {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Library {
    fn start(self, verb: &str, cache: &Path) -> Run {
        let folder = msal_folder().unwrap();
        let mut command = match self {
            Self::Python => Command::new(python().unwrap()),
            Self::Node => Command::new("node"),
        };
        let script = match self {
            Self::Python => "python_client.py",
            Self::Node => "node_client.mjs",
        };
        let mut child = command
            .arg(folder.join(script))
            .arg(verb)
            .arg(cache)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Run { child, lines }
    }

    async fn sign_in(self, cache: &Path) -> Value {
        let mut run = self.start("sign-in", cache);
        let url = run.hear().await["open"].as_str().unwrap().to_owned();
        let landing = http_sign_in_up_to_redirect(&url, ALICE.username).await.unwrap();
        run.tell(landing.as_str()).await;
        run.hear().await
    }

    async fn device(self, cache: &Path) -> Value {
        let mut run = self.start("device", cache);
        let asked = run.hear().await;
        let (page, code) = (asked["verify"].as_str().unwrap(), asked["code"].as_str().unwrap());
        assert!(asked["message"].as_str().unwrap().contains(code));
        let last = http_device_sign_in(page, code, ALICE.username).await.unwrap();
        assert!(last.body.contains("You have signed in"), "{}", last.body);
        run.hear().await
    }

    async fn silent(self, cache: &Path) -> Value {
        self.start("silent", cache).hear().await
    }
}

impl Run {
    async fn hear(&mut self) -> Value {
        let line =
            self.lines.next_line().await.unwrap().expect("the library's script ended; its words are above");
        serde_json::from_str(&line).unwrap()
    }

    async fn tell(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().unwrap();
        input.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        input.flush().await.unwrap();
    }
}

fn assert_alice(outcome: &Value) {
    assert_eq!(
        (outcome["mail"].as_str(), outcome["tid"].as_str()),
        (Some(ALICE.mail), Some(ALICE.tid)),
        "{outcome}"
    );
    assert_eq!(outcome["from"], "identity_provider", "the answer came from the tenant, not from a cache");
}

/// Signs in both ways, refreshes silently under strict reuse detection, and is told when that is over.
async fn signs_in_refreshes_and_is_told(library: Library, tenant: &Tenant) {
    let folder = tempfile::tempdir().unwrap();
    let (browser, device) = (folder.path().join("browser.json"), folder.path().join("device.json"));
    tenant.reuse(Reuse::Strict).await.unwrap();
    assert_alice(&library.sign_in(&browser).await);
    assert_alice(&library.device(&device).await);

    let before = tenant.count("token:refresh_token").await.unwrap();
    for cache in [&browser, &device, &browser] {
        assert_alice(&library.silent(cache).await);
    }
    assert_eq!(tenant.count("token:refresh_token").await.unwrap() - before, 6);

    tenant.revoke(ALICE).await.unwrap();
    let refused = library.silent(&browser).await;
    assert_eq!(
        (&refused["error"], &refused["suberror"]),
        (&"invalid_grant".into(), &"bad_token".into()),
        "{refused}"
    );
    if let Library::Node = library {
        assert_eq!(refused["classification"], "InteractionRequiredAuthError");
    }
}

#[tokio::test]
async fn msal_for_python_signs_in_and_refreshes_silently() {
    let name = "msal::msal_for_python_signs_in_and_refreshes_silently";
    if let Some(tenant) = enter(name).await.unwrap() {
        signs_in_refreshes_and_is_told(Library::Python, &tenant).await;
    }
}

#[tokio::test]
async fn msal_for_node_signs_in_and_refreshes_silently() {
    let name = "msal::msal_for_node_signs_in_and_refreshes_silently";
    if let Some(tenant) = enter(name).await.unwrap() {
        signs_in_refreshes_and_is_told(Library::Node, &tenant).await;
    }
}
