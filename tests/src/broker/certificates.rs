//! A CA and the leaves it signed, by the `openssl` command: what an operator with a CA of his own has.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// Which certificate the broker shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// For `localhost`, valid, of the broker's own CA.
    Valid,
    /// Valid, but for another host.
    WrongName,
    /// For `localhost`, but ended yesterday.
    Expired,
}

/// PEM files of a client certificate and its key.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Certificate {
    pub(super) fn file_stem(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::WrongName => "wrong-name",
            Self::Expired => "expired",
        }
    }
}

const CONFIG: &str = "
[req]
distinguished_name = name
[name]
[ca]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[localhost]
basicConstraints = critical,CA:FALSE
subjectAltName = DNS:localhost,IP:127.0.0.1
[elsewhere]
basicConstraints = critical,CA:FALSE
subjectAltName = DNS:elsewhere.example
[client]
basicConstraints = critical,CA:FALSE
extendedKeyUsage = clientAuth
";

/// Writes `ca.pem` and `{leaf}.pem`, `{leaf}.key` for every leaf into `dir`.
pub(super) fn generate(dir: &Path) -> Result<()> {
    super::write(&dir.join("openssl.cnf"), CONFIG)?;
    let new_key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(
        dir,
        &format!(
            "req -x509 -config openssl.cnf -extensions ca {new_key} -keyout ca.key -out ca.pem -days 30 -subj /CN=Test-CA"
        ),
    )?;
    let leaves = [
        (Certificate::Valid.file_stem(), "localhost", 10),
        (Certificate::WrongName.file_stem(), "elsewhere", 10),
        (Certificate::Expired.file_stem(), "localhost", -1),
        ("client", "client", 10),
    ];
    for (serial, (name, extensions, days)) in leaves.into_iter().enumerate() {
        openssl(
            dir,
            &format!("req -config openssl.cnf {new_key} -keyout {name}.key -out {name}.csr -subj /CN={name}"),
        )?;
        openssl(
            dir,
            &format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -set_serial {} -days {days} \
                 -extfile openssl.cnf -extensions {extensions} -out {name}.pem",
                serial + 2
            ),
        )?;
    }
    Ok(())
}

fn openssl(dir: &Path, arguments: &str) -> Result<()> {
    let output = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(dir)
        .output()
        .context("openssl")?;
    ensure!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
